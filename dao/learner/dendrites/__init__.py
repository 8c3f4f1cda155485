"""Artificial dendrites: grown by perforatedai, their controls, and the same in plain torch."""
