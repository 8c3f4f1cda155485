"""Measurements beside the tests: what a training step costs (not installed)."""

import dao.learner  # noqa: F401  (its guard runs before the first transformers import)
