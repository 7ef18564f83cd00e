"""Turns photographs into label maps: preprocess, windows, decoder, Predictor."""
