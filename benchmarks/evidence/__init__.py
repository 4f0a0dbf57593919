"""What each system is worth on the embedded world, beside its baselines, with several seeds."""
