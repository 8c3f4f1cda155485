"""Where the seconds of a command go."""
