"""Base models and adapters: finding, loading, quantizing, padding-free forward passes, answer likelihood."""
