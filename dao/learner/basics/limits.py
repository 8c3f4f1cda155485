"""How much messages, tables and reports tell before they count the rest or leave it out."""

LISTED = 12
"""Names, such as those of classes, that a message lists."""
IN_A_LINE = 6
"""Tasks that one line names, alone or each with a figure; values that an error lists."""
EXAMPLES = 4
"""Names that stand as examples for all."""
FIGURES_TOLD = 3
"""Figures that a sentence about a model tells."""
TOGETHER = 2
"""Tasks up to which all figures share a table, and each has lines of its own."""
ACROSS = 6
"""Columns of figures that stand beside each other in a table."""
PICTURED = 6
"""Tasks up to which a report has pictures, and tables of effects, of each."""
