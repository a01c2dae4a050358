"""The program from its start to its end: its commands, and which error becomes which message and exit code.

Nothing heavy is imported at the top, so that ``medqa --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from medqa_cli import console, distributed, hub
from medqa_cli.errors import InputError, Interrupted, MedqaError, first_line, out_of_memory
from medqa_cli.files import for_the_owner, is_full_disk
from medqa_cli.streams import prepare_streams

if TYPE_CHECKING:
    import typer
    from typer.core import TyperGroup

_MORE_ROOM = (
    "close what else uses the memory, or lower train.max_tokens_per_forward, model.max_length, eval.batch_size or "
    "generate.batch_size, or take a smaller base; medqa train --plan reports what a training run takes, --resume "
    "continues from its last checkpoint"
)
_SHOWN_OF_A_NAME = 200
# What text programs and input methods make of the hyphens of an option.
_OTHER_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"
_OPTION_WITH_OTHER_DASHES = re.compile(rf"-*[{_OTHER_DASHES}][-{_OTHER_DASHES}]*([a-z][a-z-]*(?:=.*)?)")

P = ParamSpec("P")
R = TypeVar("R")


def load_commands() -> typer.Typer:
    """Return the program with all of its commands."""
    # Help lists them in the order of their import: that in which a newcomer needs them.
    from medqa_cli.cli import quickstart, convert, train, merge, ask, serve, eval, doctor, review, config  # noqa: F401, I001
    from medqa_cli.cli.app import app

    return app


def main() -> None:
    """Run the program. Errors that a user can act on become a message and an exit code; others are bugs and show."""
    prepare_streams()
    # Before any library is imported, silence what it prints then and stop what it would fetch: bitsandbytes reports
    # that an optional kernel package is absent (which does not matter), others print deprecations.
    hub.forbid_kernels()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|peft|bitsandbytes|torch|accelerate)(\.|$)")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from typer.core import TyperGroup
    from typer.main import get_command

    # ``Typer`` itself would put a hook for exceptions before the console's.
    program = get_command(load_commands())
    assert isinstance(program, TyperGroup)
    if not distributed.is_main():
        console.mute()
    try:
        with _ended_like_ctrl_c(), for_the_owner():
            _refuse_mistyped(sys.argv[1:], program)
            # Also as python -m medqa_cli: help and the shells' completion name the command that people type.
            program(prog_name="medqa")
    except KeyboardInterrupt:  # while a command was still being imported
        sys.exit(Interrupted.exit_code)
    except MedqaError as error:
        if not distributed.has_joined() and not isinstance(error, Interrupted):
            console.unmute()  # rank 0 does not know of it
        if os.environ.get("MEDQA_DEBUG") == "1":
            raise
        console.error(error)
        if isinstance(error, distributed.LostRankError):
            # Gloo's threads, still waiting for the lost rank, abort a Python that is shutting down.
            sys.stderr.flush()
            os._exit(error.exit_code)
        distributed.leave_group()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away (medqa ask ... | head): nothing is wrong, nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _refuse_mistyped(words: Sequence[str], program: TyperGroup) -> None:
    """Refuse what looks right to whoever typed or pasted it, and would be called an unexpected argument.

    Raises:
        InputError: an option begins with other dashes than hyphens or stands before the command, or ``--set`` has a
            space before its ``=``.
    """
    option = words[0].partition("=")[0] if words else ""
    if option.startswith("-") and not _takes(program, option) and (takers := list(_commands_with(option, program))):
        typed = [taker for taker in takers if taker.split()[1] in words]
        raise InputError(f"{option} stands before the command", f"type it behind: {(typed or takers)[0]} {option} ...")
    for word in words:
        if mistyped := _OPTION_WITH_OTHER_DASHES.fullmatch(word):
            dash = next(character for character in word if character in _OTHER_DASHES)
            raise InputError(
                f"'{word}' is no option: '{dash}' is not a hyphen but {unicodedata.name(dash)}",
                f"type: --{mistyped[1]}",
            )
    for word, key, sign, value in zip(words, words[1:], words[2:], [*words[3:], "VALUE"], strict=False):
        if word == "--set" and "=" not in key and sign.startswith("="):
            raise InputError(f"--set {key} {sign} has a space before its '='", f"type: --set {key}={sign[1:] or value}")


def _takes(command: Any, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


def _commands_with(option: str, group: Any, name: str = "medqa") -> Iterator[str]:
    """Yield the commands that take an option, as they are typed; their class is private to Typer."""
    for below, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands_with(option, command, f"{name} {below}")
        elif _takes(command, option):
            yield f"{name} {below}"


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: nothing half-written stays, least of all someone's texts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ending_with_a_message(command: Callable[P, R]) -> Callable[P, R]:
    """Turn Ctrl-C (exit code 130), full memory and a full disk (exit code 1) into a message.

    Typer would print ``Aborted.`` for the first and a traceback for the others.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        console.begin()
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except Exception as error:  # libraries have classes of their own for some of these
            if (explained := _explained(error)) is None:
                raise
            raise explained from error
        finally:
            console.end()

    return run


def _explained(error: Exception) -> MedqaError | None:
    """Return the message for full memory, a full disk or a name that cannot be used; None for any other error."""
    if (cause := out_of_memory(error)) is not None:
        reason = f": {first_line(cause)}" if str(cause).strip() else ""
        return MedqaError(f"memory ran out{reason}", _MORE_ROOM)
    if isinstance(error, InputError):
        is_full = isinstance(error.__cause__, OSError) and is_full_disk(error.__cause__)
        return MedqaError(error.message, error.hint) if is_full else None  # no fault of the input: exit code 1
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return InputError(str(error), "name another file or folder")
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    name = str(error.filename or "")
    if is_full_disk(error):
        what = f"{name} could not be written" if name else "not everything could be written"
        return MedqaError(f"{what}: {error.strerror}", "make room, then give the same command again")
    if not name:
        return None  # the traceback says which file it is
    if len(name) > _SHOWN_OF_A_NAME:
        name = f"{name[:60]}...{name[-60:]} ({len(name):,} letters)"
    what = f"{name} cannot be used: {error.strerror or error}"
    return InputError(what, "check the name, its permissions and the disk")
