"""Losses that two methods share."""
