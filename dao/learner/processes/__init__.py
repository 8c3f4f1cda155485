"""One run on several processes: who works on what, who writes, how Ctrl-C arrives."""
