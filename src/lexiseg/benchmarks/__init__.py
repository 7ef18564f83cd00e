"""Describes one benchmark per file: data layout, vocabulary, background rule, splits."""
