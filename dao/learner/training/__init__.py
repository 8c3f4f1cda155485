"""Fitting a model: the plan, the loop, growth, resumption. Start at `loop.fit`."""
