"""Tries the inputs of a door one after the other in a child process, under limits of time and memory.

A child that dies or hangs is counted as the fault of the input at hand, and another one goes on behind it.
"""

import contextlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

SECONDS, MEMORY_BYTES = 60.0, 2 << 30
LOADED, REFUSED = "loaded", "refused"


class Tried(NamedTuple):
    """How one input ended: ``loaded``, ``refused``, or the fault; what was said; seconds."""

    seed: int
    outcome: str
    said: str
    seconds: float


@dataclass(frozen=True)
class Door:
    """``try_one`` lays a changed input into an empty folder, which is the current one, and opens it.

    What it raises is a fault, unless it is a MedqaError. ``prepare`` runs once before, in the parent process: it makes
    the good files and imports what takes long.
    """

    try_one: Callable[[random.Random, Path], None]
    prepare: Callable[[], object]


def attack(name: str, door: Door, seeds: Sequence[int], seconds: float = SECONDS) -> list[Tried]:
    """Try the door with these seeds; return one outcome for each."""
    door.prepare()
    tried: list[Tried] = []
    while len(tried) < len(seeds):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        left = seeds[len(tried) :]
        child = multiprocessing.get_context("fork").Process(target=_try_all, args=(name, door, left, theirs))
        child.start()
        theirs.close()
        started = time.monotonic()
        with contextlib.suppress(EOFError), ours:
            while len(tried) < len(seeds) and ours.poll(seconds):
                tried.append(ours.recv())
                started = time.monotonic()
        if len(tried) < len(seeds):
            took = time.monotonic() - started
            tried.append(Tried(seeds[len(tried)], _end_of(child, took >= seconds), "", round(took, 2)))
        child.join()
    return tried


def _end_of(child: Any, is_late: bool) -> str:
    if is_late:
        child.kill()
    child.join()
    code: int = child.exitcode
    return "hang" if is_late else signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _try_all(name: str, door: Door, seeds: Sequence[int], results: Connection) -> None:
    """Be the child: silent, and within limits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    own = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()  # data, as the limit counts it
    resource.setrlimit(resource.RLIMIT_DATA, (own + MEMORY_BYTES, own + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if torch := sys.modules.get("torch"):
        # Two loading threads that both renew PyTorch's pool of threads behind a fork fail ("Invalid thread pool!").
        torch.set_num_threads(torch.get_num_threads())
    for seed in seeds:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.chdir(folder)
            started = time.monotonic()
            outcome, said = outcome_of(partial(door.try_one, random.Random(f"{name}-{seed}"), Path(folder)))
            results.send(Tried(seed, outcome, said, round(time.monotonic() - started, 2)))
            os.chdir("/")
    os._exit(0)


def outcome_of(action: Callable[[], None]) -> tuple[str, str]:
    """Run it; return ``loaded``, ``refused``, ``silent``, ``memory`` or ``traceback``, and what was said."""
    from medqa_cli.errors import MedqaError

    try:
        action()
    except MedqaError as error:
        return REFUSED, error.message
    except AssertionError as error:
        return "silent", str(error)
    except BaseException as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return "memory", str(error)[:300]
        frame = "".join(traceback.format_tb(error.__traceback__)[-1:]).strip()
        return "traceback", f"{type(error).__name__}: {error}"[:300] + f" @ {frame}"[:200]
    return LOADED, ""


@contextlib.contextmanager
def collected(errors: list[BaseException]) -> Iterator[None]:
    """Keep the error, so that the next way of opening a file is tried too."""
    try:
        yield
    except BaseException as error:
        errors.append(error)


def raise_worst(errors: list[BaseException]) -> None:
    """Raise the first that is no refusal, else the first."""
    from medqa_cli.errors import MedqaError

    for error in [error for error in errors if not isinstance(error, MedqaError)] + errors:
        raise error
