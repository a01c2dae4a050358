"""Answering questions with a tuned, merged or base model."""
