"""Benchmarks run over predictors: evaluate, compare, sweep, oracle, corruptions."""
