"""Holds each trained system's numbers in a file of its own.

They are RECIPE (paper scale), MINI (ours) and TOY (test scale).
"""
