"""Holds blocks that two methods share."""
