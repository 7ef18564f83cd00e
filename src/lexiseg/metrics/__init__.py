"""Computes scores from one confusion matrix over the data set."""
