"""How much memory a training step takes, found without weights."""
