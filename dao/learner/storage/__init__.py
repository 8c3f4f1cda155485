"""Files that are written whole or not at all; the run folder. Start at `record.RunFolder`."""
