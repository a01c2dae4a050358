"""The errors that medqa reports to its user: a message, a hint, an exit code.

``console.error`` prints them. Any other exception is a bug and shows its traceback.
"""

import errno
import re
from collections.abc import Sequence

SHOWN_CHARACTERS = 300  # of what a library says
# How CUDA and ROCm, their libraries (cuBLAS, cuDNN, hipBLAS, ...), PyTorch's CPU allocator on each system, and the
# system itself report it.
_MEMORY_ERRORS = re.compile(
    r"(CUDA|HIP|Triton|driver|device)\b.*\bout of memory|STATUS_ALLOC_FAILED"
    r"|(cuda|hip)Error(MemoryAllocation|OutOfMemory)|rocblas_status_memory_error"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc|cannot allocate memory",
    re.IGNORECASE,
)


class MedqaError(Exception):
    """Something the user can act on. The work failed: exit code 1.

    Args:
        message: what was found and what was expected.
        hint: what to do next, usually a command; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(MedqaError):
    """The input is wrong or missing (a file, a column, a model): exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration is wrong. Holds every problem that was found, one line each: exit code 2."""

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = list(problems)


class Interrupted(MedqaError):
    """The user stopped the work and it was saved: exit code 130."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, of bounded length; its class where that says little."""
    first, _, rest = str(error).strip().partition("\n")
    # Where the first line only announces the second. PyTorch names the tensors below a headline.
    mismatch = rest.find("size mismatch")
    message = rest[mismatch:].partition("\n")[0] if mismatch >= 0 else first
    if message.endswith(":"):
        message = f"{message} {' '.join(rest.split())}"
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError | AssertionError) or not message:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return message if len(message) <= SHOWN_CHARACTERS else f"{message[:SHOWN_CHARACTERS]} ..."


def out_of_memory(error: BaseException | None) -> BaseException | None:
    """Return the error that reports full memory: this one or one of its causes; None: neither does."""
    while error is not None:
        # By name and text: torch is not imported for commands that do without, and only some of its errors of this
        # kind have a class of their own.
        by_class = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        by_number = isinstance(error, OSError) and error.errno == errno.ENOMEM
        by_text = not isinstance(error, MedqaError) and _MEMORY_ERRORS.search(first_line(error)) is not None
        if by_class or by_number or by_text:
            return error
        error = error.__cause__
    return None


def reason_of(error: Exception) -> str:
    """Return the first line of what an error says; where memory ran out, no reason is given and it is raised again."""
    if out_of_memory(error) is not None:
        raise error
    return first_line(error)
