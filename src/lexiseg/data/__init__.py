"""Makes batches of pictures, captions and label maps, in resumable order."""
