"""How long the stages of a command took. Does not print anything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stages:
    """Wall-clock seconds by stage, in the order in which the stages were first entered."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        entered = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - entered

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage so far."""
        return {name: round(spent, 2) for name, spent in self._seconds.items()}

    def total(self) -> float:
        """Return the seconds since the start."""
        return round(time.perf_counter() - self._started, 2)
