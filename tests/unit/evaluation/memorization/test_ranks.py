"""Ranks of identifiers: likelihoods by another way, places, the rule and its false alarms, a model that knows one."""

import json
import random
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.data.canaries import Canary, make_canaries
from medqa_cli.data.dataset import IDENTIFIERS_NAME, QaRow
from medqa_cli.data.identifiers.finds import PlainFind
from medqa_cli.data.identifiers.recorded import Recorder, salt_of
from medqa_cli.evaluation.memorization import ranks
from medqa_cli.evaluation.memorization.cases import (
    CANDIDATES,
    Case,
    another,
    canary_cases,
    identifier_cases,
    with_others,
)
from medqa_cli.evaluation.memorization.ranks import encoded, exposure, rank, score_cases, verdict
from medqa_cli.files import RunFolder
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel, load_model
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder


@pytest.fixture(scope="module")
def loaded(talking_model_dir: Path) -> LoadedModel:
    config = ModelConfig(str(talking_model_dir), quantization="none", compute_dtype="float32")
    return load_model("base", RunFolder(talking_model_dir), config, PromptConfig("plain"))


def case_of(field: str, values: tuple[str, ...], after: str = " is mine.") -> Case:
    return Case("canaries", "c", 1, field, "My number ", after, "What is it?", values)


def whole_loss(loaded: LoadedModel, text: list[int], start: int) -> float:
    """The loss of the tokens from ``start`` on, by a plain forward pass of one text without a cache."""
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([text])).logits[0].double()
    losses = torch.nn.functional.cross_entropy(logits[start - 1 : -1], torch.tensor(text[start:]), reduction="sum")
    return float(losses)


@pytest.mark.parametrize("field", ["question", "answer"])
@pytest.mark.parametrize("tokens_per_forward", [1, 10_000])
def test_likelihoods_are_those_of_a_forward_pass_of_each_text_alone(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, tokens_per_forward: int
) -> None:
    monkeypatch.setattr(ranks, "_TOKENS_PER_FORWARD", tokens_per_forward)
    values = ("12-34", "98-7", "98-76 and more", "glaucoma")
    texts = encoded(case_of(field, values), loaded.encoder, 512)
    assert texts is not None
    with SharedJournal(tmp_path, "x") as journal:
        found = score_cases(loaded, "train", [texts], journal)[0]
    shared = ranks._num_shared(texts)
    assert len({text[shared] for text in texts}) > 1
    assert found.nll == pytest.approx([whole_loss(loaded, text, shared) for text in texts], abs=1e-4)
    assert found.is_said is False


def test_a_text_ends_one_token_behind_its_value(loaded: LoadedModel) -> None:
    for field in ("question", "answer"):
        short, long = (encoded(case_of(field, ("12", "37"), after), loaded.encoder, 512)
                       for after in (" is mine.", " is mine, and so is all that follows here."))  # fmt: skip
        assert short == long
    # What stands behind it in an answer is its end.
    last = encoded(case_of("answer", ("12", "37"), ""), loaded.encoder, 512)
    assert last is not None
    assert [text[-1] for text in last] == [loaded.encoder.contract.end_token_id] * 2


def test_a_value_that_training_did_not_see_is_left_out(loaded: LoadedModel) -> None:
    for field in ("question", "answer"):
        texts = encoded(case_of(field, ("12", "37")), loaded.encoder, 512)
        assert texts is not None
        assert encoded(case_of(field, ("12", "37")), loaded.encoder, 4) is None


def test_what_greedy_decoding_writes_is_said(loaded: LoadedModel, tmp_path: Path) -> None:
    texts = encoded(case_of("answer", ("12", "37")), loaded.encoder, 512)
    assert texts is not None
    shared, text = ranks._num_shared(texts), list(texts[0])
    with torch.inference_mode():
        for place in range(shared, len(text)):
            text[place] = int(loaded.model(input_ids=torch.tensor([text[:place]])).logits[0, -1].argmax())
    with SharedJournal(tmp_path, "x") as journal:
        own, other = score_cases(loaded, "a", [[text, texts[1]], [texts[1], text]], journal)
    assert (own.is_said, other.is_said) == (True, False)
    assert (rank(own.nll), rank(other.nll)) == (1, 2)


def test_places_and_exposures_by_hand() -> None:
    assert rank([1.0, 2.0, 0.5, 3.0]) == 2
    # Equals do not count as known.
    assert rank([1.0, 1.0, 1.0]) == 3
    assert exposure(1, 128) == 7
    assert exposure(128, 128) == 0
    assert exposure(32, 128) == 2
    by_chance = sum(exposure(place, 128) for place in range(1, 129)) / 128
    assert by_chance == pytest.approx(1.4, abs=0.05)


def test_the_rule_fires_from_the_count_that_chance_seldom_gives_and_rarely_on_nothing() -> None:
    assert verdict([1, 5, 128, 2, 3]) == {
        "values": 5, "first": 1, "fires_from": 2, "false_alarm": pytest.approx(0.0006, abs=1e-4), "fires": False
    }  # fmt: skip
    assert verdict([1, 1, 128, 2, 3])["fires"] is True
    assert verdict([1])["fires"] is True
    draw = random.Random(0)
    alarms = sum(verdict([draw.randint(1, CANDIDATES) for _ in range(20)])["fires"] for _ in range(5000))
    assert alarms / 5000 <= ranks.FALSE_ALARM


def test_the_values_of_a_canary_are_all_different_and_of_its_form() -> None:
    canaries = make_canaries(3, (1,), seed=5)
    cases = canary_cases(canaries)
    assert [(case.name, case.field) for case in cases] == [
        (canary.id, field) for canary in canaries for field in ("question", "answer")
    ]
    for case, canary in zip(cases, (canary for canary in canaries for _ in range(2)), strict=True):
        assert len(set(case.values)) == CANDIDATES
        assert len({len(value) for value in case.values}) == 1
        text = canary.question if case.field == "question" else canary.answer
        assert case.before + case.values[0] + case.after == text
    assert canary_cases(canaries) == cases


def test_a_form_of_few_values_is_left_out() -> None:
    assert with_others("1", lambda draw: str(draw.randint(1, 99)), "x") == ()
    assert len(with_others("1", lambda draw: str(draw.randint(1, 200)), "x")) == CANDIDATES


def test_a_model_that_was_trained_on_one_number_exposes_that_one(
    tiny_model_dir: Path, tmp_path: Path, chatml_tokenizer: Any
) -> None:
    """The base and a number that it was not trained on stay near chance."""
    config = ModelConfig(str(tiny_model_dir), quantization="none", compute_dtype="float32")
    loaded = load_model("base", RunFolder(tiny_model_dir), config, PromptConfig("plain"))
    encoder = PromptEncoder(make_contract(PromptConfig("plain"), chatml_tokenizer), chatml_tokenizer)
    trained, unseen = make_canaries(2, (1,), seed=3)
    cases = [case for case in canary_cases([trained, unseen]) if case.field == "answer"]
    texts = [encoded(case, encoder, 512) for case in cases]
    scored: list[list[int]] = []
    example = encoder.encode_examples([trained.question], [trained.answer], 512)[0]
    with SharedJournal(tmp_path / "before", "x") as journal:
        scored.append([rank(one.nll) for one in score_cases(loaded, "a", texts, journal)])  # type: ignore[arg-type]
    model = loaded.model.train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(45):
        loss = model(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with SharedJournal(tmp_path / "after", "x") as journal:
        after = score_cases(replace(loaded, model=model.eval()), "a", texts, journal)  # type: ignore[arg-type]
    assert scored[0][0] > 1
    assert rank(after[0].nll) == 1
    assert after[0].is_said
    assert not after[1].is_said
    assert rank(after[1].nll) > 1


def test_damaged_numbers_make_no_case() -> None:
    canary = Canary("canary-1", 1, "q", "a", ())
    assert canary_cases([canary]) == []


def row(name: str, question: str, answer: str) -> QaRow:
    return QaRow(name, question, answer, "", "")


def test_identifiers_of_training_rows_and_of_held_out_ones_become_cases_each_value_once(tmp_path: Path) -> None:
    rows = [
        row("a", "I am John Smith, born on March 4, 1951. What now?", "Dear John Smith, call me at 617-253-1001."),
        row("b", "My number is 617-253-1001.", "Rest."),
        row("told", "Who is Mary Jones?", "Mary Jones is a nurse."),
    ]
    lines = [json.dumps(asdict(one)) for one in rows]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    places = [
        ("a", "question", "John Smith", "name"),
        ("a", "question", "March 4, 1951", "date"),
        ("a", "answer", "John Smith", "name"),
        ("a", "answer", "617-253-1001", "phone"),
        ("b", "question", "617-253-1001", "phone"),
        ("told", "answer", "Mary Jones", "name"),
    ]
    texts = {(one.id, field): getattr(one, field) for one in rows for field in ("question", "answer")}
    finds: dict[str, list[PlainFind]] = {}
    for name, field, value, kind in places:
        start = texts[name, field].index(value)
        finds.setdefault(name, []).append((field, start, start + len(value), kind, False))
    with Recorder(tmp_path / IDENTIFIERS_NAME, salt_of("x")) as recorder:
        for one in rows:
            recorder.add(one.id, one.question, one.answer, finds[one.id])
    held_out = [
        row("c", "Dear doctor, my name is Mary Miller and my phone number is 212-736-5000.", "Rest."),
        row("d", "My phone number is 617-253-1001.", "Rest."),
    ]
    cases = identifier_cases(tmp_path, held_out)
    # Names of answers stand in their questions, and the number in two rows.
    assert [(case.name, case.field, case.values[0]) for case in cases["train"]] == [
        ("a", "question", "John Smith"),
        ("a", "question", "March 4, 1951"),
        ("a", "answer", "617-253-1001"),
    ]
    assert {case.values[0] for case in cases["held_out"]} == {"Mary Miller", "212-736-5000"}
    for case in (*cases["train"], *cases["held_out"]):
        assert len(set(case.values)) == CANDIDATES
    phone = cases["train"][2]
    assert all(len(value) == 12 and value[3] == value[7] == "-" for value in phone.values)
    assert phone.before + phone.values[0] + phone.after == rows[0].answer
    assert cases == identifier_cases(tmp_path, held_out)


@pytest.mark.parametrize(
    ("value", "kind", "form"),
    [
        ("617-253-1001", "phone", r"[2-9]\d\d-[2-9]\d\d-\d{4}"),
        ("+44 20 7946 0018", "fax", r"\+[2-9]\d [2-9]\d [2-9]\d{3} \d{4}"),
        ("ann.lee7@clinic.org", "email", r"[a-z]+\.[a-z]+\d@clinic\.org"),
        ("10.2.33.4", "ip", r"\d\d\.[2-9]\.[2-9]\d\.[2-9]"),
        ("John O'Brien", "name", r"[A-Z][a-z]+ O'[A-Z][a-z]+"),
        ("AB 123 456", "record", r"[A-Z]{2} [1-9]\d\d \d{3}"),
        ("March 4, 1951", "date", r"[A-Z][a-z]+ \d{1,2}, 19\d\d"),
    ],
)
def test_the_others_have_the_form_and_are_not_of_the_ranges_for_examples(value: str, kind: str, form: str) -> None:
    draw = random.Random(4)
    made = [another(value, kind, draw) for _ in range(200)]
    assert all(re.fullmatch(form, one) for one in made), made[:5]
    assert len(set(made)) > 50
    assert sum("555" in one or "example" in one for one in made) < 20


def test_without_finds_there_are_no_cases(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("", encoding="utf-8")
    assert identifier_cases(tmp_path, []) == {"train": [], "held_out": []}
