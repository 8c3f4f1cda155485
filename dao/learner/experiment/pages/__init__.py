"""One page: its parts, its style, and the words that it explains."""
