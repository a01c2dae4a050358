"""The one part that touches rich. Results go to stdout; notes, progress and errors go to stderr.

With ``--json`` the tables are replaced by one JSON object on stdout. Text that comes from data or from a model passes
through ``printable`` before a terminal sees it.
"""

from medqa_cli.console.answer_stream import AnswerStream, stream
from medqa_cli.console.live import ProgressHandle, RunDisplay, clock, is_live, progress, run_display, sparkline, status
from medqa_cli.console.output import (
    begin,
    error,
    hint,
    json_lines,
    line,
    note,
    result,
    side_by_side,
    table,
    warn,
    warn_once,
)
from medqa_cli.console.streams import json_enabled, leave_terminal, prepare_streams, silence, speak, use_json, width
from medqa_cli.terminal_text import printable

__all__ = [
    "AnswerStream",
    "ProgressHandle",
    "RunDisplay",
    "begin",
    "clock",
    "error",
    "hint",
    "is_live",
    "json_enabled",
    "json_lines",
    "leave_terminal",
    "line",
    "note",
    "prepare_streams",
    "printable",
    "progress",
    "result",
    "run_display",
    "side_by_side",
    "silence",
    "sparkline",
    "speak",
    "status",
    "stream",
    "table",
    "use_json",
    "warn",
    "warn_once",
    "width",
]
