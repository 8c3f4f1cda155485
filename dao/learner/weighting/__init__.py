"""Losses to gradients: DAO, constants, published rules. Start at `weighting.make_weighting`."""
