"""Evaluates predictors on benchmarks: scores, comparisons, sweeps, oracles, corruptions."""
