"""Base models and adapters: finding, loading, quantizing, padding-free forwards, answer likelihood."""
