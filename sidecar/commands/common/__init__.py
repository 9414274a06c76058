"""What commands share: their flags, how they reach a sidecar, and how they say what came of it."""
