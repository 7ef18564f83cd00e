"""Holds each paper's maths in a file of its own."""
