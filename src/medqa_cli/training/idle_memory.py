"""Holds a training on a CPU to the freed memory that its plan lets it keep. Does not predict: ``prediction`` does."""

from __future__ import annotations

from typing import Any

import psutil
from transformers import TrainerCallback

from medqa_cli import allocator


class IdleMemoryLimit(TrainerCallback):
    """Gives idle memory back after a step that left the process with more than it may hold.

    Blocks of ever other sizes do not fit together again, so that the freed memory that is kept grows for hundreds of
    steps. Giving it back costs the next step the time to ask for it anew, and is done as rarely as the limit allows.
    """

    def __init__(self, most_bytes: int) -> None:
        """Take the most bytes that may be resident between two steps."""
        self._most_bytes = most_bytes
        self._process = psutil.Process()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Look at the process, and give back what is idle if it holds too much."""
        if self._process.memory_info().rss > self._most_bytes:
            allocator.release_idle_memory()
