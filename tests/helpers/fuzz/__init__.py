"""Hostile input for every door: good files changed with a seed, opened as the commands open them."""
