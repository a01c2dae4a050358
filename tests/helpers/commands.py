"""What a command printed and how it ended, and commands in processes of their own."""

import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from medqa_cli import confined


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


_RESULTS: dict[bytes, bytes] = {}


def remembered_call(function: Callable[..., Any], *arguments: Any, **limits: Any) -> Any:
    """Stands for ``confined.call`` of what depends on its arguments alone: one process for equal templates."""
    key = pickle.dumps((function.__qualname__, arguments))
    if key not in _RESULTS:
        _RESULTS[key] = pickle.dumps(confined.call(function, *arguments, **limits))
    return pickle.loads(_RESULTS[key])


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def draw_no_lengths(answers: Sequence[int], examples: Sequence[int], max_length: int, path: Path) -> None:
    """Stands for ``draw_lengths``, which takes longer than it takes to convert the few rows of a test."""
    path.write_bytes(PNG_SIGNATURE)


def save_no_picture(figure: Any, picture: IO[bytes], **options: Any) -> None:
    """Stands for ``Figure.savefig``, which takes as long as ten steps of a tiny training."""
    picture.write(PNG_SIGNATURE)


def run_main(arguments: Sequence[str | Path]) -> int:
    """Run ``medqa ARGUMENTS`` in this process and in the current folder; return the exit code."""
    from medqa_cli.cli.program import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["medqa", *map(str, arguments)])
        if arguments and arguments[0] in ("convert", "train", "ask", "eval", "merge"):
            patch.setattr("medqa_cli.prompt.rendering.call", remembered_call)
        if "convert" in arguments:
            patch.setattr("medqa_cli.data.token_lengths.draw_lengths", draw_no_lengths)
        if "train" in arguments:
            from helpers.training import remembered_shape

            patch.setattr("matplotlib.figure.Figure.savefig", save_no_picture)
            patch.setattr("medqa_cli.training.estimate.ShapeModel", remembered_shape)
        try:
            main()
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    return 0


def run_in(folder: Path, *arguments: str | Path) -> None:
    """Run a command that must succeed, where the function-scoped ``medqa`` cannot be used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_main(arguments) == 0


class Starter:
    """Starts ``medqa``, and scripts, in processes of their own, quickly: see fork_starter."""

    def __init__(self) -> None:
        self.errors = ""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_starter.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(
        self, *arguments: str, step: int | None = None, delay: float = 0.0, sent: int = 0, run_dir: str = ""
    ) -> int:
        """Run ``medqa`` to the end, or until the signal ``sent`` ends it once ``run_dir`` has logged ``step``."""
        start = {"script": None, "arguments": [*arguments, *(("--set", f"run_dir={run_dir}") if run_dir else ())]}
        watch = None if step is None else f"{run_dir}/train.jsonl"
        (done,) = self._run([{**start, "environment": {}}], watch=watch, step=step, delay=delay, signal=sent)
        self.errors = done.stderr
        return done.returncode

    def run_ranks(
        self, script: str | None, *arguments: str, environment: Mapping[str, str] | None = None, **watched: Any
    ) -> list[subprocess.CompletedProcess[str]]:
        """Run ``script`` (None: ``medqa``) twice at once, as torchrun would; return both outcomes, by rank.

        ``watched``: the ``signal`` that rank 1 gets once the log ``watch`` has reached ``step``.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
        start = {"script": script, "arguments": arguments}
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in range(2)]
        starts = [{**start, "environment": {**(environment or {}), **shared, **rank}} for rank in ranks]
        return self._run(starts, **{"watch": None, "delay": 0.0, **watched})

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=240)

    def _run(self, starts: list[dict[str, Any]], **watched: Any) -> list[subprocess.CompletedProcess[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as kept:
            files = [(Path(kept, f"out-{number}"), Path(kept, f"errors-{number}")) for number in range(len(starts))]
            for start, (out, errors) in zip(starts, files, strict=True):
                start |= {"out": str(out), "errors": str(errors)}
            self._process.stdin.write(json.dumps({"folder": str(Path.cwd()), "starts": starts, **watched}) + "\n")
            self._process.stdin.flush()
            codes = json.loads(self._process.stdout.readline())
            said = [[path.read_text(encoding="utf-8") for path in pair] for pair in files]
        return [
            subprocess.CompletedProcess(start["arguments"], code, *texts)
            for start, code, texts in zip(starts, codes, said, strict=True)
        ]


def fails(outcome: Outcome, code: int, *said: str) -> None:
    """Assert that a command ended with one error message that says all of ``said``, and with nothing else."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    start = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert len(start) == 1, outcome.err
    # The message is the last thing on the screen: one line, and one with the hint.
    message = lines[start[0] :]
    assert len(message) <= 2, outcome.err
    assert all(line.startswith("hint: ") for line in message[1:]), outcome.err
    missing = [text for text in said if text not in "\n".join(message)]
    assert not missing, outcome.err


CONDITIONS = ("glaucoma", "asthma", "gout", "anemia", "migraine", "eczema", "measles", "rabies", "scurvy", "tetanus")
ROWS = [
    (f"{asked} {name}?", f"{name.capitalize()} {told}, as case {number} shows.")
    for number, name in enumerate(CONDITIONS)
    for asked, told in (("What is", "is a disease of one organ"), ("How to treat", "is treated with one medicine"))
]
CONFIG = """\
data: {{dir: data, validation_fraction: 0.2, test_fraction: 0.2}}
run_dir: run
prompt: {{template: chat}}
model: {{name_or_path: {model}, quantization: none, max_length: 256}}
lora: {{r: 2}}
train: {{max_steps: 2, gradient_checkpointing: false, logging_steps: 1}}
generate: {{max_new_tokens: 8}}
eval: {{bootstrap_draws: 100}}
"""


def write_csv(path: Path, rows: list[tuple[str, str]], header: str = "question,answer") -> None:
    path.write_text("\n".join([header, *(f'"{q}","{a}"' for q, a in rows)]) + "\n", encoding="utf-8")


def write_workspace(folder: Path, model: Path) -> None:
    write_csv(folder / "qa.csv", ROWS)
    (folder / "medqa.yaml").write_text(CONFIG.format(model=model), encoding="utf-8")
