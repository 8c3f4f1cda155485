"""Dendrites on linear heads over counts of words, beside as many parameters spent otherwise."""
