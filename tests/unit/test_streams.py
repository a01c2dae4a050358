"""stdin, stdout and stderr that are closed, lose their reader, or are in an encoding of few letters."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_cli import console
from medqa_cli.answering.generate import Answer
from medqa_cli.streams import SurvivingStream, prepare_streams

TEXT = "Ménière – ≤ 5 µg 緑"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_an_encoding_lacks_is_written_as_an_escape(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    prepare_streams()
    console.line(TEXT)
    console.table("T–", [["µ", "緑"]])
    stream = console.AnswerStream()
    stream.write(TEXT)
    stream.end()
    sys.stdout.flush()
    shown = written.getvalue().decode(encoding)
    assert shown.count(TEXT.encode(encoding, "backslashreplace").decode(encoding)) == 2


def test_an_encoding_that_lacks_nothing_and_a_stream_without_one_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    monkeypatch.setattr(sys, "stdout", whole)
    monkeypatch.setattr(sys, "stderr", text)
    prepare_streams()
    assert (sys.stdout, sys.stderr) == (whole, text)
    assert whole.errors == "strict"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_json_stays_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    prepare_streams()
    console.json_lines([{"answer": TEXT}, {"answer": Answer("q", TEXT, "stop", 1, 1, 0, 0.0).text}])
    assert [json.loads(line) for line in written.getvalue().decode("ascii").splitlines()] == [{"answer": TEXT}] * 2


@pytest.mark.parametrize(
    ("closed", "is_shown"), [("<&-", True), (">&-", False), ("2>&-", True), ("<&- >&- 2>&-", False)]
)
def test_a_closed_stream_stops_nothing(tmp_path: Path, closed: str, is_shown: bool) -> None:
    script = f'"{sys.executable}" -m medqa_cli config schema {closed}; echo code $? > said'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "said").read_text() == "code 0\n"
    assert done.stderr == ""
    assert bool(done.stdout) == is_shown


def test_a_reader_of_stderr_that_went_away_stops_no_work() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        surviving = SurvivingStream(stream)
        for _ in range(2):
            surviving.write("a note\n")
            surviving.flush()
        assert os.fstat(writing).st_rdev == Path(os.devnull).stat().st_rdev
