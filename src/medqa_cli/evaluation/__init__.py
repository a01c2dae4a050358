"""Held-out figures with intervals and floors."""
