"""Findings to a page, the same page as Markdown, tables, and lines for the terminal."""
