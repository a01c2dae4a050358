"""How many of the changes that an adapter makes are too small for the types of a GGUF file to show.

A weight of a q4_0 file is one of 16 multiples of its block's step; most changes of a usual adapter are far below half
of it, so that rounding keeps them by chance only. Does not write files.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

# Of GGUF's block types (llama.cpp, ggml-quants.c): 32 neighbours in a row share a step, that of their largest value.
_BLOCK = 32
_STEPS = {"q4_0": 1 / 8, "q8_0": 1 / 127}
# Above this share a file of that type answers more like the base than the tuned model does.
_NOTEWORTHY_SHARE = 0.5


class SmallChanges:
    """Counts changes below half a step; a piece that is computed again counts once."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], tuple[int, ...]] = {}

    def add(self, name: str, piece: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """Count a piece of a matrix, ``(rows, in)`` float32, before and after the change."""
        if after.dim() != 2 or after.shape[1] % _BLOCK:
            return
        changes = (after - before).abs_().view(-1, _BLOCK)
        largest = after.reshape(-1, _BLOCK).abs().amax(1, keepdim=True)
        small = (int((changes < share * largest / 2).sum()) for share in _STEPS.values())
        self._counts[name, piece] = (after.numel(), *small)

    def shares(self) -> dict[str, float] | None:
        """Return the share of small changes by type of file; None: no matrix divides into blocks."""
        if not self._counts:
            return None
        total, *small = (sum(column) for column in zip(*self._counts.values(), strict=True))
        return {kind: round(count / total, 4) for kind, count in zip(_STEPS, small, strict=True)}


def small_changes_warning(shares: Mapping[str, float] | None, file_types: tuple[str, ...]) -> str | None:
    """Return what to tell of the files that are asked for; None: nothing."""
    lost = [kind for kind in file_types if (shares or {}).get(kind, 0.0) > _NOTEWORTHY_SHARE]
    if not lost or shares is None:
        return None
    told = " and ".join(f"{shares[kind]:.1%} of them in {kind}" for kind in lost)
    better = " or ".join(kind for kind in ("f16", "q8_0") if kind not in lost)
    return (
        f"the adapter's changes of the weights are smaller than half a quantization step: {told}; much of what was "
        f"learnt is lost in rounding. Measure that file, or take {better}"
    )
