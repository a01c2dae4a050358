"""Output for people: results on stdout; notes, progress, warnings and errors on stderr. Only this package uses rich.

With ``--json`` one JSON object on stdout replaces the tables. Text from data or from a model passes through
``printable`` before it reaches a terminal; files keep it unchanged.
"""

# ruff: noqa: F401 -- what the other packages print with

from medqa_cli.console.displays import ProgressHandle, RunDisplay, doing, progress, run_display, sparkline, status
from medqa_cli.console.printing import (
    AnswerStream,
    error,
    hint,
    json_lines,
    line,
    note,
    result,
    side_by_side,
    stream,
    table,
    warn,
    warn_once,
)
from medqa_cli.console.terminal import (
    begin,
    clock,
    end,
    is_live,
    json_enabled,
    json_line,
    mute,
    printable,
    unmute,
    use_json,
    width,
)
