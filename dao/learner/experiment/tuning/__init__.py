"""`--tune`: optuna proposes settings, runs try them, validation selects. Start at `search`."""
