"""What a person reads: tables, progress, the model card, errors in one line."""
