"""Reads command lines and prints what the library returns."""
