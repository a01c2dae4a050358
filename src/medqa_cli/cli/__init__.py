"""The command line: options, the config, one worker imported inside each command body, its result shown.

Nothing heavy is imported at the top, so that ``medqa --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator

from medqa_cli import console, distributed, hub
from medqa_cli.cli.app import app
from medqa_cli.errors import Interrupted, MedqaError
from medqa_cli.streams import prepare_streams

# Help lists the commands in the order of their import: that in which a newcomer needs them.
from medqa_cli.cli import convert, train, merge, ask, eval, config  # isort: skip

__all__ = ["ask", "config", "convert", "eval", "main", "merge", "train"]


def main() -> None:
    """Run the program. Errors that a user can act on become a message and an exit code; others are bugs and show."""
    prepare_streams()
    _quiet_libraries()
    if not distributed.is_main():
        console.mute()
    try:
        with _ended_like_ctrl_c():
            # Also as python -m medqa_cli: help and the shells' completion name the command that people type.
            app(prog_name="medqa")
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


def _quiet_libraries() -> None:
    """Silence what libraries print on import, and stop what they would fetch; called before any of them is imported.

    bitsandbytes reports that an optional kernel package is absent (which does not matter), others print deprecations.
    """
    hub.forbid_kernels()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|peft|bitsandbytes|torch|accelerate)(\.|$)")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
