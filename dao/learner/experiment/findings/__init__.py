"""Finished runs to statistics: comparable runs, differences, intervals, verdicts."""
