"""The program's commands, and how each ends on Ctrl-C, a full disk or full memory. Does not know what they do."""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar

import typer

from medqa_cli import __version__, console
from medqa_cli.cli.options import START, is_fresh
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError, Interrupted, MedqaError
from medqa_cli.files import is_full_disk


def examples(*calls: str, title: str = "Examples") -> str:
    """Return the end of a command's help: calls to copy, the usual one first, each with what it does beside it.

    Args:
        calls: each a call, or a call and what it does with two spaces between.
        title: stands above them.
    """
    parts = [call.partition("  ") for call in calls]
    width = max((len(call) for call, _, told in parts if told), default=0)
    lines = [f"  {call:{width}}  {told.strip()}".rstrip() for call, _, told in parts]
    # \b: what follows is not wrapped.
    return "\n".join(["\b", f"{title}:", *lines])


app = typer.Typer(
    help="From a spreadsheet of medical questions and answers to a tuned language model, with honest figures.",
    epilog=examples(
        "medqa config init  write medqa.yaml for this machine",
        "medqa convert questions.csv  clean and split the data",
        "medqa train --plan  what the training will take",
        "medqa train  train the adapter",
        "medqa eval --limit 200  measure it on held-out questions",
        'medqa ask "How to treat glaucoma?"  ask it',
        "medqa COMMAND --help  more on a command, with examples",
        title="First steps",
    ),
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(
    help="Write, check or show the configuration.",
    epilog=examples(
        "medqa config init  write a commented medqa.yaml for this machine",
        "medqa config check  say all its mistakes at once",
        "medqa config show  print each value and where it came from",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(config_app, name="config")

_MORE_ROOM = (
    "close what else uses the memory, or lower train.max_tokens_per_forward, model.max_length, eval.batch_size or "
    "generate.batch_size, or take a smaller base; medqa train --plan says what a training takes, --resume goes on from "
    "its last checkpoint"
)
# What CUDA and ROCm, their libraries (cuBLAS, cuDNN, hipBLAS, ...), PyTorch's CPU allocator on each system, and the
# system itself say of it.
_SAID_OF_MEMORY = re.compile(
    r"(CUDA|HIP|Triton|driver|device)\b.*\bout of memory|STATUS_ALLOC_FAILED"
    r"|(cuda|hip)Error(MemoryAllocation|OutOfMemory)|rocblas_status_memory_error"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc|cannot allocate memory",
    re.IGNORECASE,
)

_SHOWN_OF_A_NAME = 200

P = ParamSpec("P")
R = TypeVar("R")


def ending_with_a_message(command: Callable[P, R]) -> Callable[P, R]:
    """Turn Ctrl-C into exit code 130 and a sentence, a full disk and full memory into exit code 1 and a sentence.

    Typer would print ``Aborted.`` for the first, and a traceback for the others.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        console.begin()
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except Exception as error:  # of any kind: libraries have classes of their own for these two
            if (cause := _out_of_memory(error)) is not None:
                said = _first_line(cause)
                raise MedqaError(f"memory ran out: {said}" if said else "memory ran out", _MORE_ROOM) from error
            if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
                raise InputError(str(error), "name another file or folder") from error
            if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
                raise
            if not is_full_disk(error):
                if not error.filename:
                    raise  # of a file that is open: where it was tells more than a sentence
                raise _unusable(error) from error
            what = f"{error.filename} could not be written" if error.filename else "not everything could be written"
            raise MedqaError(f"{what}: {error.strerror}", "make room, then give the same command again") from error

    return run


def _unusable(error: OSError) -> MedqaError:
    """Return the message for a name that is too long, a link in a circle, a disk that fails and the like."""
    what = f"{_shortened(str(error.filename))} cannot be used: {error.strerror or error}"
    return InputError(what, "check the name, its permissions and the disk")


def _shortened(name: str) -> str:
    """Return a name as a message can show it: of thousands of letters both ends."""
    return name if len(name) <= _SHOWN_OF_A_NAME else f"{name[:60]}...{name[-60:]} ({len(name):,} letters)"


def _print_version(wanted: bool) -> None:
    if wanted:
        console.line(f"medqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        console.note(ctx.get_help())
        if is_fresh(None, Config()):
            console.note("")
            console.hint(START)
        raise typer.Exit(InputError.exit_code)


def _out_of_memory(error: BaseException | None) -> BaseException | None:
    """Return the error that says that memory ran out: this one, or one that it was made of."""
    while error is not None:
        # By name and text: torch is not imported for commands that do without, and only some of its errors of this
        # kind have a class of their own.
        by_class = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        by_number = isinstance(error, OSError) and error.errno == errno.ENOMEM
        by_text = not isinstance(error, MedqaError) and _SAID_OF_MEMORY.search(_first_line(error)) is not None
        if by_class or by_number or by_text:
            return error
        error = error.__cause__
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
