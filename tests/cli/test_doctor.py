"""``medqa doctor``: its lines, its JSON and its exit code; what it cannot check is said."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome
from medqa_cli.config.schema import Config
from medqa_cli.doctor import run as doctor
from medqa_cli.doctor.finding import Finding

Medqa = Callable[..., Outcome]
SOUND = Finding("a = b", "tiny Llama", "ok", True, "1e-07 apart (at most 0.0001)", 1e-7, 1e-4)
BROKEN = Finding("c = d", "tiny Llama", "wrong", True, "0.3 apart (at most 0.0001)", 0.3, 1e-4)
UNUSED = Finding("e = f", "", "wrong", False, "0.3 apart (at most 0.0001)", 0.3, 1e-4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finding(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    def found(*args: Any, **kwargs: Any) -> Iterator[Finding]:
        yield from findings

    monkeypatch.setattr(doctor, "_findings", found)


def test_a_sound_machine_ends_with_0_and_a_line_for_each_check(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    finding(monkeypatch, SOUND, UNUSED)
    outcome = medqa("doctor")
    assert outcome.code == 0, outcome.err
    assert SOUND.line() in outcome.out.splitlines()
    assert "1 ok, 1 wrong, in " in outcome.out
    assert outcome.out.startswith("machine\n  medqa ")
    assert "device: CPU" in outcome.out


def test_what_the_config_needs_and_is_wrong_ends_with_1(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    finding(monkeypatch, SOUND, BROKEN)
    outcome = medqa("doctor")
    assert outcome.code == 1
    assert "something that your config needs is wrong" in outcome.out
    said = json.loads((as_json := medqa("doctor", "--json")).out)
    assert as_json.code == 1
    assert [(check["check"], check["fails"]) for check in said["checks"]] == [("a = b", False), ("c = d", True)]
    assert said["fails"]
    assert said["machine"]["packages"]["torch"]


def test_nothing_is_left_behind(medqa: Medqa, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding(monkeypatch, SOUND)
    medqa("doctor")
    assert list(folder.iterdir()) == []


def test_loading_does_not_count_against_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = []

    def found(*args: Any, full: bool) -> list[Finding]:
        deadlines.append(args[-1])
        return [SOUND]

    monkeypatch.setattr(doctor, "_findings", found)
    now = time.monotonic()
    report = doctor.diagnose(Config(), started=now - 3600)
    assert deadlines[0] >= now + doctor.MOST_SECONDS
    assert report["seconds"] >= 3600


def test_when_its_time_is_over_the_rest_is_said_not_to_be_checked(
    medqa: Medqa, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "MOST_SECONDS", -1.0)
    said = json.loads(medqa("doctor", "--json").out)
    assert {check["status"] for check in said["checks"]} == {"not checked"}
    reasons = [check["text"] for check in said["checks"]]
    assert "model.name_or_path is not set" in reasons[0]
    assert all("its time was over" in reason for reason in reasons[1:])
    assert len(reasons) > 10
