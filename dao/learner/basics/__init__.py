"""Small helpers that know nothing of the learner, so that every room may import them."""
