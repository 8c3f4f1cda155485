"""One run from a table to its record. Start at `run.run`."""
