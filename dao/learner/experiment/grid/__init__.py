"""Arms and seeds to finished runs: what is missing is run, on this machine or on a cluster."""
