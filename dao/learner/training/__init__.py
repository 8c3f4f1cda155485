"""Steps to a fitted model: the plan, the loop, growth, resume. Start at `loop.fit`."""
