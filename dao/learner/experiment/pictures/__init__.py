"""Findings to figures: effects, training curves, predictions."""
