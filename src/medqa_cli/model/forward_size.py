"""How many tokens one padding-free forward may hold: what the device computes fast, within the memory at hand.

Does not know what a token takes: ``dry_run`` finds that.
"""

from __future__ import annotations

# More tokens in one forward are not faster: matrix products are at full speed, dequantization is spread thin enough.
ENOUGH_TOKENS = {"cpu": 768, "cuda": 16_384}
# The rest is for logits, gradients, other programs and what the estimate does not know.
SHARE_OF_FREE_MEMORY = 0.5


def tokens_that_fit(bytes_per_token: float, free_bytes: int) -> int:
    """Return how many tokens of a forward the free memory holds, with a margin."""
    return int(max(0, free_bytes) * SHARE_OF_FREE_MEMORY / max(1.0, bytes_per_token))


def tokens_per_forward(bytes_per_token: float, free_bytes: int, device_type: str, max_length: int) -> int:
    """Return the limit on a forward's tokens: enough to be fast, no more than fit, at least one longest example."""
    return max(max_length, min(enough_tokens(device_type), tokens_that_fit(bytes_per_token, free_bytes)))


def enough_tokens(device_type: str) -> int:
    """Return from how many tokens on a forward is not faster."""
    return ENOUGH_TOKENS.get(device_type, ENOUGH_TOKENS["cpu"])
