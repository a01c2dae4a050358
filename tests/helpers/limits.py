"""A limit of processor time, so that what never ends is a failed test and not a hanging one."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def processor_limit(seconds: float) -> Iterator[None]:
    """Fail once the block has taken so much of this process's time; regular expressions end too. Not on Windows."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end within {seconds:g} seconds of processor")

    before = signal.signal(signal.SIGVTALRM, fail)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
