"""Texts to tensors: token ids once, batches of similar length, rows packed into lines."""
