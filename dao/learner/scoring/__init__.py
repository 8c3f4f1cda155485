"""Outputs to figures: predictions, figures per task, plain models beside them, thresholds."""
