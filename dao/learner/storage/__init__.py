"""Files that appear whole or not at all, and the run folder. Start at `record.RunFolder`."""
