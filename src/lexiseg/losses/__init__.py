"""Holds losses that two methods share."""
