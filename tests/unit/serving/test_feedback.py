"""What readers report at the page: from a served answer to the files, and through ``medqa review`` to pairs."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from helpers.answerers import make_answerer
from helpers.commands import Outcome, fails
from helpers.models import make_chatml_tokenizer
from helpers.serving import chat, serving
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.errors import InputError
from medqa_cli.model.load import LoadedModel
from medqa_cli.review.judgments import read_judgments, read_key
from medqa_cli.serving import feedback as module
from medqa_cli.serving.feedback import Feedback

Medqa = Callable[..., Outcome]
CONFIG = Config(generate=GenerateConfig(max_new_tokens=3))
GIVEN = {"question": "What is gout?", "answer": "A \ud83dplant.", "verdict": "harmful", "remark": "no"}


@pytest.fixture(scope="module")
def answerer() -> LoadedModel:
    return make_answerer(make_chatml_tokenizer(), [300, 301])


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "wrong.json"


def post(answerer: LoadedModel, feedback: Feedback, *bodies: dict[str, Any]) -> list[int]:
    headers = {"Content-Type": "application/json"}
    with serving(CONFIG, answerer, feedback=feedback) as client:
        assert "Report this answer" in client.get("/").text
        return [client.post("/feedback", content=json.dumps(body), headers=headers).status_code for body in bodies]


def test_a_served_answer_is_reported_scored_and_exported(answerer: LoadedModel, path: Path, medqa: Medqa) -> None:
    feedback = Feedback(path, "adapter", answerer.encoder.contract)
    with serving(CONFIG, answerer, feedback=feedback) as client:
        answered = client.post("/v1/chat/completions", json=chat("What is gout?")).json()["medqa"]
        body = {key: answered[key] for key in ("question", "answer", "finish_reason")}
        # As the page sends it.
        right = {**body, "verdict": "wrong", "remark": "odd", "correction": "A disease of joints."}
        assert client.post("/feedback", json=right).status_code == 200
        assert client.post("/feedback", json={**GIVEN, "answer": "A plant."}).status_code == 200
    assert answered["answer"]
    scored = medqa("review", "score", "wrong.json", "--json")
    assert scored.code == 0, scored.err
    found = json.loads(scored.out)
    counts = {"reports": 2, "wrong": 1, "harmful": 1, "corrected": 1}
    assert (found["models"], found["questions"]) == ({"adapter": counts}, 1)
    assert json.loads(path.with_name("wrong.results.json").read_text()) == found
    assert "does not say how often" in medqa("review", "score", "wrong.json").out
    fails(medqa("review", "score", "wrong.json", "--fail-on", "adapter.could_harm > 0.05"), 2, "reported by readers")
    exported = medqa("review", "export", "wrong.json")
    assert exported.code == 0, exported.err
    (pair,) = map(json.loads, path.with_name("wrong.dpo.jsonl").read_text().splitlines())
    text = answerer.encoder.contract.text
    assert pair["prompt"] == text.prompt("What is gout?")
    assert pair["chosen"] == text.answer_prefix + "A disease of joints."
    assert pair["rejected"] == text.answer_prefix + answered["answer"]


def test_files_are_those_of_a_review_for_their_owner_only(answerer: LoadedModel, path: Path) -> None:
    feedback = Feedback(path, "merged-model", answerer.encoder.contract)
    assert post(answerer, feedback, GIVEN, {**GIVEN, "finish_reason": "nothing_near", "answer": ""}) == [200, 200]
    key = read_key(path.with_name("wrong.key.json"))
    (first, second), problems = read_judgments([path], key)
    assert problems == []
    assert not key.is_sample
    assert (first.pair.x, second.pair.x) == ("merged_model", "none")
    assert (first.x["could_harm"], first.x["correct"], first.better, first.remark) == (True, None, None, "no")
    assert key.samples[first.pair.question_id]["merged_model"] == "A \ufffdplant."
    for written in (path, path.with_name("wrong.key.json")):
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert "plant" not in path.read_text()  # as of a rater: no question, no answer


def test_a_server_that_starts_again_goes_on_with_its_files(answerer: LoadedModel, path: Path) -> None:
    contract = answerer.encoder.contract
    Feedback(path, "adapter", contract).add(GIVEN)
    Feedback(path, "base", contract).add(GIVEN)
    judgments, problems = read_judgments([path], read_key(path.with_name("wrong.key.json")))
    assert ([judgment.pair.x for judgment in judgments], problems) == (["adapter", "base"], [])
    other = replace(contract, text=replace(contract.text, system="Be brief."))
    with pytest.raises(InputError, match="another prompt"):
        Feedback(path, "adapter", other)
    path.unlink()
    with pytest.raises(InputError, match="one of them is missing"):
        Feedback(path, "adapter", contract)


def test_what_is_missing_wrong_or_too_long_is_refused_and_nothing_is_written(
    answerer: LoadedModel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feedback = Feedback(path, "adapter", answerer.encoder.contract)
    changes: list[dict[str, Any]] = [
        {"verdict": "fine"}, {"verdict": []}, {"answer": 3}, {"question": " "}, {"remark": "x" * 6000},
        {"correction": "x" * 21_000},
    ]  # fmt: skip
    before = path.read_bytes()
    assert post(answerer, feedback, *({**GIVEN, **change} for change in changes)) == [400] * len(changes)
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    assert post(answerer, feedback, GIVEN) == [500]
    assert path.read_bytes() == before
    monkeypatch.undo()
    # What could not be written is not written later.
    feedback.add({**GIVEN, "remark": "later"})
    judgments, _ = read_judgments([path], read_key(path.with_name("wrong.key.json")))
    assert [judgment.remark for judgment in judgments] == ["later"]
