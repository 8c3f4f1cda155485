"""Files and hub data to one table with train, validation and test. Start at `load.load`."""
