"""How a model is computed: kernels of medqa's own, padding-free batches, and the proof that they are right."""
