"""How far answers can be trusted: temperatures, sets and intervals, texts unlike the training."""
