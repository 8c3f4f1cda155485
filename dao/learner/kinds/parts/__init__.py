"""What several kinds of task share: reading of cells, losses, thresholds, plain models."""
