"""The state of a process's random numbers, in the form and under the names by which Transformers reads it back.

Transformers lets each rank write its own file; here rank 0 writes those of all. Does not write.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state(*, all_devices: bool) -> dict[str, Any]:
    """Return the state of this process, as ``Trainer._load_rng_state`` takes it.

    Args:
        all_devices: with the generators of all GPUs, as Transformers restores them where it is distributed; otherwise
            with that of the current one.
    """
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state_all() if all_devices else torch.cuda.random.get_rng_state()
    return state


def random_state_name(rank: int, world_size: int) -> str:
    """Return the name of a rank's file in a checkpoint."""
    return "rng_state.pth" if world_size == 1 else f"rng_state_{rank}.pth"
