"""How many tokens one padding-free forward may hold: what the device computes fast, within the memory at hand.

Does not measure; the estimate of a forward's memory follows from what the fused layers keep for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch

# More tokens in one forward are not faster: matrix products are at full speed, dequantization is spread thin enough.
ENOUGH_TOKENS = {"cpu": 768, "cuda": 16_384}
# The rest is for logits, gradients, other programs and what the estimate does not know.
SHARE_OF_FREE_MEMORY = 0.5


def activation_bytes_per_token(config: Any, dtype: torch.dtype, *, recomputed: bool) -> int:
    """Return what one token of a forward keeps until its backward pass, in bytes.

    Per layer six vectors of the hidden size (both residual inputs and their norms, query, attention output), key and
    value, and two of the intermediate size (``fused_layers``). With recomputed activations each layer keeps its input,
    and one layer at a time the rest.

    Args:
        config: the Transformers config of the model.
        dtype: type of the activations.
        recomputed: gradient checkpointing is on.
    """
    hidden = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 1))
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or hidden // heads)
    intermediate = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    layers = int(config.num_hidden_layers)
    one_layer = 6 * hidden + 2 * kv_heads * head_dim + 2 * intermediate
    values = layers * hidden + one_layer if recomputed else layers * one_layer
    return values * dtype.itemsize


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that is free on ``device`` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def tokens_that_fit(bytes_per_token: int, device: torch.device) -> int:
    """Return how many tokens of a forward the free memory holds, with a margin."""
    return int(free_memory_bytes(device) * SHARE_OF_FREE_MEMORY) // max(1, bytes_per_token)


def tokens_per_forward(bytes_per_token: int, device: torch.device, max_length: int) -> int:
    """Return the limit on a forward's tokens: enough to be fast, no more than fit, at least one longest example."""
    enough = ENOUGH_TOKENS.get(device.type, ENOUGH_TOKENS["cpu"])
    return max(max_length, min(enough, tokens_that_fit(bytes_per_token, device)))
