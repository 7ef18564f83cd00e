"""Files and shards as stored bytes, pixels and texts."""
