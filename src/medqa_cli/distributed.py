"""The processes of one run that ``torchrun`` or ``accelerate launch`` started side by side, and how they agree.

Each is a rank; rank 0 speaks and writes for all. ``raise_on_all_ranks`` and ``from_main`` succeed or fail
on all ranks alike, so that none waits for another that has given up. Without a launcher everything here is
a plain call, and torch is not imported.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from medqa_cli.errors import MedqaError, first_line

# How long a rank waits for another that converts, loads or saves. One that dies is noticed at once, by its connection.
_PATIENCE = timedelta(hours=2)

# How long a rank that is done waits for the others to be done as well, before it ends by itself.
_FAREWELL = timedelta(minutes=1)

_joined: dict[str, Any] = {}

T = TypeVar("T")


class LostRankError(MedqaError):
    """Another rank ended without a word to the others: exit code 1."""


def world_size() -> int:
    """Return the number of ranks on all hosts; 1 without a launcher."""
    return _launched_with("WORLD_SIZE", 1)


def rank() -> int:
    """Return this process's number among all, from 0."""
    return _launched_with("RANK", 0)


def local_rank() -> int:
    """Return this process's number on its host, from 0: the index of its GPU."""
    return _launched_with("LOCAL_RANK", 0)


def cpu_wanted() -> bool:
    """Tell whether the launcher was told to leave GPUs alone (``accelerate launch --cpu``)."""
    return _is_true("ACCELERATE_USE_CPU")


def is_main() -> bool:
    """Tell whether this process prints and writes."""
    return rank() == 0


def is_sharded() -> bool:
    """Tell whether the launcher asks for FSDP: each rank then holds a part of the model (``accelerate launch``)."""
    return world_size() > 1 and _is_true("ACCELERATE_USE_FSDP")


def has_joined() -> bool:
    """Tell whether this rank has met the others, so that its errors reach rank 0."""
    return world_size() == 1 or bool(_joined)


def all_gather(value: T) -> list[T]:
    """Return every rank's ``value`` (anything that pickles), by rank. All ranks must call it.

    Raises:
        LostRankError: a rank has died.
    """
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world_size()
    with _noticing_lost_ranks():
        dist.all_gather_object(values, value, group=_control_group())
    return values


def any_rank(condition: bool) -> bool:
    """Tell whether ``condition`` holds on any rank. All ranks must call it; cheap enough for every step.

    Raises:
        LostRankError: a rank has died.
    """
    if world_size() == 1:
        return condition
    import torch
    import torch.distributed as dist

    flag = torch.tensor(int(condition))
    with _noticing_lost_ranks():
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=_control_group())
    return bool(flag)


@contextlib.contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Let a ``MedqaError`` inside the block, on whichever rank, leave it on all. All ranks must enter it.

    Nothing inside may wait for other ranks: one that failed does not come.

    Raises:
        MedqaError: that of the first rank that failed; a rank other than 0 is named in it.
        LostRankError: a rank has died.
    """
    if world_size() == 1:
        yield
        return
    problem: MedqaError | None = None
    try:
        yield
    except MedqaError as error:
        problem = error
    for number, (error_there, host) in enumerate(all_gather((problem, socket.gethostname()))):
        if error_there is None:
            continue
        if number == 0:
            raise error_there from problem
        # Rank 0 speaks for all; of others it says which one it was.
        named = MedqaError(f"process {number} of {world_size()} ({host}): {error_there.message}", error_there.hint)
        named.exit_code = error_there.exit_code
        raise named from problem


def from_main(work: Callable[[], T]) -> T:
    """Do ``work`` on rank 0 only and return its result (it must pickle) on all. All ranks must call it.

    Raises:
        MedqaError: that of rank 0.
        LostRankError: a rank has died.
    """
    if world_size() == 1:
        return work()
    import torch.distributed as dist

    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except MedqaError as error:
            outcome[1] = error
    with _noticing_lost_ranks():
        dist.broadcast_object_list(outcome, src=0, group=_control_group())
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def leave_group() -> None:
    """Wait a while until all ranks have come to their end, then leave the group. Not after ``LostRankError``.

    A launcher ends the others as soon as one process has failed; rank 0 must have said why by then. Where only this
    one has failed, the others wait for it elsewhere and see its end by that.
    """
    if not _joined:
        return
    import torch.distributed as dist

    with contextlib.suppress(RuntimeError):  # one of them has died meanwhile, or does not come
        dist.monitored_barrier(group=_joined["group"], timeout=_FAREWELL)
    if dist.is_initialized():
        dist.destroy_process_group()


def _launched_with(name: str, otherwise: int) -> int:
    # All three, or none: some clusters set RANK for programs that do not ask for it.
    values = [os.environ.get(key, "") for key in ("WORLD_SIZE", "RANK", "LOCAL_RANK")]
    return int(os.environ[name]) if all(value.isdecimal() for value in values) else otherwise


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1")


def _control_group() -> Any:
    """Meet the other ranks at first use; return the group, on the CPUs, in which decisions are exchanged."""
    if not _joined:
        import torch
        import torch.distributed as dist
        from accelerate import PartialState

        # It picks NCCL or Gloo and this rank's GPU, as the Trainer does later.
        PartialState(cpu=cpu_wanted() or not torch.cuda.is_available())
        _joined["group"] = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return _joined["group"]


@contextlib.contextmanager
def _noticing_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(
            f"another process of this run has ended: {first_line(error)}",
            "its own message stands above, or where its host prints",
        ) from error
