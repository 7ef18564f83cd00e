"""Reads image-text pairs, prepares captions, packs shards."""
