"""Hostile input at the doors that are not models: no traceback, no abort, no more than 2 GB, none over a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="each input is tried in a fork")


@pytest.mark.parametrize(
    ("door", "count"), [("config", 300), ("samples", 300), ("served", 300), ("data", 250), ("sheets", 50)]
)
def test_mutations_of_good_input_end_in_work_or_in_one_message(door: str, count: int) -> None:
    script = Path(__file__).with_name("hostile.py")
    done = subprocess.run(
        [sys.executable, str(script), door, "1", str(count)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []


def test_a_fault_is_found() -> None:
    """The attack sees a traceback, an abort and too much memory: it can fail."""
    code = (
        "import json, os, hostile\n"
        "print(json.dumps([hostile._try(door, 'x') for door in (\n"
        "    lambda rng, folder: 1 / 0, lambda rng, folder: os.abort(), lambda rng, folder: bytearray(2200 << 20),\n"
        "    lambda rng, folder: None)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    traceback, abort, memory, good = json.loads(done.stdout)
    assert "ZeroDivisionError" in traceback
    assert abort == "SIGABRT"
    assert memory.endswith(" MiB")
    assert good == ""
