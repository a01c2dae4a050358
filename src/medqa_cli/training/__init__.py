"""Training an adapter: encoded examples, the Trainer subclass, what a person sees, the work of ``medqa train``."""
