"""Loss weightings on frozen features: small trunks, seconds a run. Start at `training.train`."""
