"""The folder of a planned experiment to its findings: rows of the tables, tests, ranks, choices."""
