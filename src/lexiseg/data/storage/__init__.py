"""Stores files and shards as bytes, pixels and texts."""
