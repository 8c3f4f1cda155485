"""What the cells of a column look like, where nobody has said what they are."""
