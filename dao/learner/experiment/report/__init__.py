"""Findings to a page, its Markdown, tables and what the terminal shows."""
