"""Answers of an unfinished run: kept whole, taken up by the same run only, gone when all is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.answerers import make_answerer
from medqa_cli.answering.batch import PartialAnswers, identity_of
from medqa_cli.errors import InputError
from medqa_cli.journal import fingerprint

FIRST, SECOND, THIRD = ({"answer": text} for text in ("one", "zwei \u2028 é", "three"))


def test_answers_are_written_in_the_order_of_their_questions(tmp_path: Path) -> None:
    out = tmp_path / "new" / "answers.jsonl"
    with PartialAnswers(out, "run") as partial:
        partial.add({2: THIRD})
        partial.add({0: FIRST, 1: SECOND})
        assert not out.exists()
        partial.finish()
    assert [json.loads(line) for line in out.read_text("utf-8").split("\n") if line] == [FIRST, SECOND, THIRD]
    assert [path.name for path in out.parent.iterdir()] == ["answers.jsonl"]


def test_a_run_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with PartialAnswers(out, "run") as partial:
        partial.add({1: SECOND})
    with PartialAnswers(out, "run") as partial:
        assert partial.pieces == {1: SECOND}
        partial.add({0: FIRST})
    with PartialAnswers(out, "run") as partial:
        assert partial.pieces == {0: FIRST, 1: SECOND}


def test_a_line_that_a_killed_run_left_half_written_is_dropped(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with PartialAnswers(out, "run") as partial:
        partial.add({0: FIRST, 1: SECOND})
    whole = partial.path.read_bytes()
    for cut in range(1, len(json.dumps([1, SECOND], ensure_ascii=False).encode())):
        partial.path.write_bytes(whole[:-cut])
        with PartialAnswers(out, "run") as again:
            assert again.pieces in ({0: FIRST}, {0: FIRST, 1: SECOND})
            again.add({1: SECOND})
        with PartialAnswers(out, "run") as again:
            assert again.pieces == {0: FIRST, 1: SECOND}


def test_answers_of_another_run_are_not_taken_up(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with PartialAnswers(out, "run") as partial:
        partial.add({0: FIRST})
    before = partial.path.read_bytes()
    with pytest.raises(InputError, match="other questions, of another model, from other data or with other settings"):
        PartialAnswers(out, "another")
    assert partial.path.read_bytes() == before


def test_an_output_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text("mine")
    with pytest.raises(InputError, match="is already there"):
        PartialAnswers(out, "run")
    assert out.read_text() == "mine"


def test_a_damaged_line_and_all_after_it_are_answered_anew(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with PartialAnswers(out, "run") as partial:
        partial.add({0: FIRST, 1: SECOND, 2: THIRD})
    lines = partial.path.read_bytes().split(b"\n")
    lines[2] = b"\0" * len(lines[2])  # what a crash of the machine may leave
    partial.path.write_bytes(b"\n".join(lines))
    with PartialAnswers(out, "run") as again:
        assert again.pieces == {0: FIRST}


def test_a_place_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl.partial").mkdir()
    with pytest.raises(InputError, match=r"answers\.jsonl\.partial cannot be read: Is a directory"):
        PartialAnswers(tmp_path / "answers.jsonl", "run")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/answers\.jsonl\.partial cannot be read: Not a directory"):
        PartialAnswers(tmp_path / "file" / "answers.jsonl", "run")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"cannot write .*link/answers\.jsonl\.partial: File exists"):
        PartialAnswers(tmp_path / "link" / "answers.jsonl", "run")


def test_a_fingerprint_tells_what_decides_the_answers() -> None:
    parts = (["What is gout?"], {"model": "adapter"}, {"temperature": 0.0})
    others = [
        (["What is Gout?"], *parts[1:]),
        (parts[0], {"model": "base"}, parts[2]),
        (*parts[:2], {"temperature": 1}),
    ]
    assert len({fingerprint(*each) for each in (parts, *others)}) == 4
    assert fingerprint(*parts) == fingerprint(*parts)


def test_retrained_weights_are_another_model(tmp_path: Path, chatml_tokenizer: Any) -> None:
    answerer = make_answerer(chatml_tokenizer)
    assert "weights" not in identity_of(answerer, "base", tmp_path / "absent")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"one")
    first = identity_of(answerer, "adapter", tmp_path)
    assert first == identity_of(answerer, "adapter", tmp_path)
    assert [name for name, *_ in first["weights"]] == ["adapter_model.safetensors"]
    (tmp_path / "adapter_model.safetensors").write_bytes(b"three")
    assert identity_of(answerer, "adapter", tmp_path) != first
