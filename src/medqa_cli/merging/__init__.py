"""Merging an adapter into its base model."""
