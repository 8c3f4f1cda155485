"""The command that looks into single answers of a finished run."""
