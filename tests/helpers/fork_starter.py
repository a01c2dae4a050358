"""Starts ``medqa`` in processes that have the imports behind them: one import, then a fork for each start.

A program of its own, not part of pytest's process, whose threads would not survive a fork. Reads one JSON object a line
from standard input (``arguments``, ``errors``, ``watch``, ``step``, ``delay``, ``signal``), runs ``medqa ARGUMENTS``,
sends it the signal once the log ``watch`` has reached ``step`` and ``delay`` seconds have passed, and answers with the
exit ``code``; that of a process which a signal ended is its negative number. ``errors`` is the file for what it prints.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.005


def reached(log: Path, step: int) -> bool:
    """Tell whether a training has logged ``step`` or a later one."""
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    return any(int(found) >= step for found in re.findall(r'"step": (\d+)', text))


def run_child(arguments: list[str], errors: str) -> None:
    """Become ``medqa ARGUMENTS``; does not return."""
    import torch

    from medqa_cli.cli import main

    torch.set_num_threads(1)
    handle = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["medqa", *arguments]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(job: dict[str, Any]) -> dict[str, Any]:
    """Run one start."""
    child = os.fork()
    if child == 0:
        run_child(job["arguments"], job["errors"])
    sent = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {"code": os.waitstatus_to_exitcode(status)}
        if not sent and job["watch"] is not None and reached(Path(job["watch"]), job["step"]):
            time.sleep(job["delay"])
            os.kill(child, job["signal"])
            sent = True
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Import everything once, then serve until standard input ends."""
    for module in ("bitsandbytes", "peft", "medqa_cli.data.pipeline", "medqa_cli.training.run"):
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
