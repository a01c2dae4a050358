"""The script for the day that a GPU is there: it loses no figure, goes on where it stopped, and keeps its time."""

import importlib
import json
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT

KEY = {"commit": "abc", "device": "some card", "dry_run": False}
# Prints a figure, then does what its name says.
SCRIPT = """
import json, subprocess, sys, time
name = sys.argv[1]
print(json.dumps({"figure": "speed", "value": 1.5}), flush=True)
print("a word", flush=True)
if name == "fails":
    sys.exit("broken")
if name == "hangs":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(60)
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


@pytest.fixture
def run(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the program with stages of its own; return its exit code."""
    script = tmp_path / "stages.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(gpu, "STAGES_SCRIPT", script)
    monkeypatch.setattr(gpu, "key_of", lambda dry_run: KEY)

    def go(*stages: Any, minutes: float = 1.0) -> int:
        monkeypatch.setattr(gpu, "stages", lambda dry_run: list(stages))
        arguments = ["gpu.py", "--out", str(tmp_path / "out"), "--minutes", str(minutes)]
        monkeypatch.setattr(sys, "argv", arguments)
        code: int = gpu.main()
        return code

    return go


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out/figures.jsonl").read_text().splitlines()]


def test_a_stage_that_is_done_is_not_run_again_and_one_that_failed_is(
    gpu: Any, run: Callable[..., int], tmp_path: Path
) -> None:
    stages = gpu.Stage("fails", 20, 1), gpu.Stage("works", 20, 1), gpu.Stage("absent", 20, 1, "no such package")
    assert run(*stages) == 1
    assert [(line["stage"], line.get("status"), line.get("value")) for line in lines(tmp_path)] == [
        ("fails", None, 1.5),
        ("fails", "failed", None),
        ("works", None, 1.5),
        ("works", "done", None),
        ("absent", "left out", None),
    ]
    assert all(line["key"] == KEY for line in lines(tmp_path))
    assert run(*stages) == 1
    assert [line["stage"] for line in lines(tmp_path)[5:]] == ["fails", "fails"]


def test_a_stage_ends_at_its_limit_with_all_that_it_started_and_its_figures_stay(
    gpu: Any, run: Callable[..., int], tmp_path: Path
) -> None:
    begun = time.monotonic()
    assert run(gpu.Stage("hangs", 3.0, 0.5)) == 1
    assert time.monotonic() - begun < 30
    found = lines(tmp_path)
    assert (found[0]["value"], found[1]["status"]) == (1.5, "failed")


def test_nothing_begins_that_has_no_time_left(gpu: Any, run: Callable[..., int], tmp_path: Path) -> None:
    assert run(gpu.Stage("works", 20, 10), minutes=0.1) == 2
    assert [line.get("status") for line in lines(tmp_path)] == ["no time"]
    assert run(gpu.Stage("works", 20, 1)) == 0


def test_what_was_never_tried_comes_before_what_failed(gpu: Any) -> None:
    stages = [gpu.Stage(name, 1, 1) for name in ("failed", "done", "new", "no time")]
    ended = {"failed": "failed", "done": "done", "no time": "no time"}
    assert [stage.name for stage in gpu.order_of(stages, ended, None)] == ["new", "no time", "failed"]
    assert [stage.name for stage in gpu.order_of(stages, ended, ["done"])] == ["done"]


def test_figures_of_another_card_and_half_a_line_do_not_count(gpu: Any, tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    gpu.Results(path, {**KEY, "device": "another card"}).add("tests", status="done", seconds=1)
    results = gpu.Results(path, KEY)
    results.add("plan", status="done", seconds=1)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"key": {"commit"')
    assert results.ended() == {"plan": "done"}


def test_every_stage_has_its_work(gpu: Any) -> None:
    work = importlib.import_module("gpu_stages")
    for dry_run in (False, True):
        names = [stage.name for stage in gpu.stages(dry_run=dry_run)]
        assert sorted(names) == sorted(work.STAGES)
        assert names.index("quickstart") < names.index("accelerate")
    assert all(stage.least < stage.seconds for stage in gpu.stages(dry_run=False))
    # What tells most is begun even where each takes all that it may.
    first = gpu.stages(dry_run=False)[:4]
    assert sum(stage.seconds for stage in first) < 14 * 60


def test_a_fresh_environment_gets_its_packages_from_a_folder(gpu: Any, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "medqa_made_up-1.0-py3-none-any.whl", "w") as wheel:
        about = "medqa_made_up-1.0.dist-info"
        wheel.writestr("medqa_made_up.py", "VALUE = 7\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: medqa-made-up\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    before = list(sys.path)
    try:
        gpu.install(wheels, tmp_path / "packages", ["medqa-made-up"])
        assert importlib.import_module("medqa_made_up").VALUE == 7
    finally:
        sys.path[:] = before
