"""What Sphinx does for these pages beyond its own: formulas as MathML, pages made from the code."""
