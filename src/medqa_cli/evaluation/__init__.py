"""Held-out figures with intervals and baselines."""
