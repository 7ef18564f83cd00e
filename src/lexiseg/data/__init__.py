"""Pictures, captions and label maps as batches, in an order that can be resumed."""
