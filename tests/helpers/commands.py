"""What a command printed and how it ended; commands that several processes run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


def two_processes(folder: Path, script: str, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run ``script`` twice at once, as torchrun would; return both outcomes, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(2):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        command = [sys.executable, "-c", script, *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True))
    done = []
    for process in started:
        out, err = process.communicate(timeout=240)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return done


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
