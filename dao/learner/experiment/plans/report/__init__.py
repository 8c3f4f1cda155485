"""The findings of a planned experiment to pages, tables and lines on the terminal."""
