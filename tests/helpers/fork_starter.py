"""Starts ``medqa``, or a script, in processes that have the imports behind them: one import, then a fork for each.

A program of its own, not part of pytest's process, whose threads would not survive a fork. Reads one JSON object a line
from standard input: ``folder``, in which to run, and ``starts``, all of which run at once. Each has ``arguments``, the
``script`` that gets them (None: ``medqa``), variables of the ``environment``, and files for what goes to ``out`` and
``errors``. With ``watch`` the last one gets a ``signal`` once that log has reached ``step`` and ``delay`` seconds have
passed. Answers with the list of exit codes; that of a process which a signal ended is its negative number.
"""

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from medqa_cli.cli.program import load_commands

POLL_SECONDS = 0.005
# What the commands import, at once or on the way: a child that has to import takes seconds more.
MODULES = [
    "bitsandbytes",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "nltk",
    "peft.tuners.lora.bnb",
    "peft.utils.transformers_weight_conversion",
    "pydantic.type_adapter",
    "medqa_cli.data.convert",
    "medqa_cli.evaluation.rescore",
    "medqa_cli.evaluation.run",
    "medqa_cli.training.run",
]


def reached(log: Path, step: int) -> bool:
    """Tell whether a training run has logged ``step`` or a later one."""
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    return any(int(found) >= step for found in re.findall(r'"step": (\d+)', text))


def run_child(folder: str, start: dict[str, Any]) -> None:
    """Become the program; does not return."""
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.update(start["environment"])
    for path, target in ((start["out"], 1), (start["errors"], 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        if start["script"] is None:
            from medqa_cli.cli.program import main

            sys.argv = ["medqa", *start["arguments"]]
            main()
        else:
            sys.argv = ["-c", *start["arguments"]]
            exec(start["script"], {"__name__": "__main__"})
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as Python itself does at the end of a program
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(job: dict[str, Any]) -> list[int]:
    """Run all starts of a job to their ends."""
    running = {}
    for number, start in enumerate(job["starts"]):
        child = os.fork()
        if child == 0:
            run_child(job["folder"], start)
        running[child] = number
    last, sent = child, job["watch"] is None
    codes = [0] * len(running)
    while running:
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[running.pop(child)] = os.waitstatus_to_exitcode(status)
        if not sent and last in running and reached(Path(job["folder"], job["watch"]), job["step"]):
            time.sleep(job["delay"])
            os.kill(last, job["signal"])
            sent = True
        time.sleep(POLL_SECONDS)
    return codes


def main() -> None:
    """Import everything once, then serve until standard input ends."""
    for module in MODULES:
        importlib.import_module(module)
    load_commands()
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
