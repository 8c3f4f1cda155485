"""The page of one run, from what the run has saved; `write_run_page` in `page.py` writes it."""
