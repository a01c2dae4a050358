"""The program's commands, and how each of them ends on Ctrl-C. Does not know what the commands do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from medqa_cli import __version__, console
from medqa_cli.errors import Interrupted

_ORDER = ["convert", "train", "merge", "ask", "eval", "config"]


class _InOrder(TyperGroup):
    """Lists the commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    help="From a spreadsheet of medical questions and answers to a tuned language model, with honest figures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Show, check or describe the configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")

P = ParamSpec("P")
R = TypeVar("R")


def interruptible(command: Callable[P, R]) -> Callable[P, R]:
    """Turn Ctrl-C into exit code 130 and a sentence; Typer would print ``Aborted.`` and exit with 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    return run


def _print_version(wanted: bool) -> None:
    if wanted:
        console.line(f"medqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
