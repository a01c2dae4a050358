"""How many tokens one padding-free forward may hold: what the device computes fast, within the memory at hand.

Does not know what a token takes: ``dry_run`` finds that.
"""

from __future__ import annotations

import torch

# More tokens in one forward are not faster: matrix products are at full speed, dequantization is spread thin enough.
# Where products are fast (bfloat16 on a CPU with AMX), that takes more of them (docs/experiments.md, 2026-11-28).
ENOUGH_TOKENS = {("cpu", torch.float32): 768, ("cpu", torch.bfloat16): 2048, ("cuda", None): 16_384}
# The rest is for logits, gradients, other programs and what the estimate does not know.
SHARE_OF_FREE_MEMORY = 0.5


def tokens_that_fit(bytes_per_token: float, free_bytes: int) -> int:
    """Return how many tokens of a forward the free memory holds, with a margin."""
    return int(max(0, free_bytes) * SHARE_OF_FREE_MEMORY / max(1.0, bytes_per_token))


def tokens_per_forward(
    bytes_per_token: float, free_bytes: int, device_type: str, dtype: torch.dtype, max_length: int
) -> int:
    """Return the limit on a forward's tokens: enough to be fast, no more than fit, at least one longest example."""
    return max(max_length, min(enough_tokens(device_type, dtype), tokens_that_fit(bytes_per_token, free_bytes)))


def enough_tokens(device_type: str, dtype: torch.dtype) -> int:
    """Return from how many tokens on a forward with products in ``dtype`` is not faster."""
    known = ENOUGH_TOKENS.get((device_type, dtype)) or ENOUGH_TOKENS.get((device_type, None))
    return known or ENOUGH_TOKENS["cpu", torch.float32]
