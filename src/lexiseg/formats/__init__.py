"""Label maps as files and pictures: arrays and plain values in, bytes, pictures or JSON values out."""
