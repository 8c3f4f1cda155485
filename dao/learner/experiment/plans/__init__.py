"""An experiment of one's own arms: its plan as a file, and the settings of its runs."""
