"""What a run is asked to be: frozen models with defaults. Start at `config.load_config`."""
