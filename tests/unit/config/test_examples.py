"""The examples are what they say: valid configs, the original run's settings, and the sample data with its flaws."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from helpers.original_run import HAS_OWN_VALUE, ORIGINAL, value_at
from helpers.paths import ROOT, SAMPLE
from medqa_cli.config.load import load

EXAMPLES = ROOT / "examples"
OWN = ("llama2-7b-qlora.yaml", "medquad-smollm2.yaml", "medquad-smollm2-sources.yaml")


@pytest.mark.parametrize(
    "path", [*(EXAMPLES / name for name in OWN), SAMPLE / "medqa.yaml"], ids=lambda path: path.name
)
def test_example_is_valid(path: Path) -> None:
    assert load(path).config.model.name_or_path


def test_there_is_no_untested_example() -> None:
    launchers = {"accelerate_fsdp.yaml"}  # for accelerate launch, not for medqa; test_several_ranks.py runs it
    assert {path.name for path in EXAMPLES.glob("*.yaml")} == {*OWN} | launchers


def test_the_llama2_example_is_the_original_run() -> None:
    loaded = load(EXAMPLES / "llama2-7b-qlora.yaml")
    assert {key: value_at(loaded.config, key) for key in ORIGINAL} == ORIGINAL
    unwritten = [key for key in ORIGINAL if loaded.sources[key] == "default"]
    assert unwritten == []  # each is there to be read, with its comment


def test_every_value_of_the_llama2_example_has_a_comment() -> None:
    lines = (EXAMPLES / "llama2-7b-qlora.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if line.strip() and not line.strip().startswith("#") and not line.endswith(":")]
    bare = [line.strip() for line in values if "#" not in line]
    assert bare == []
    assert len(values) > 30


def test_the_defaults_are_those_of_the_original_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None).config
    for key in ORIGINAL.keys() - HAS_OWN_VALUE:
        assert value_at(config, key) == ORIGINAL[key], key


def test_sample_data_has_its_topics_faults_and_lengths() -> None:
    with open(SAMPLE / "consumer_health_qa.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["question", "answer"]
    good = [row for row in rows if row["question"].strip() and row["answer"].strip()]
    questions = Counter(" ".join(row["question"].lower().split()) for row in good)
    assert len(questions) >= 240
    assert all(50 <= len(row["answer"].split()) <= 130 for row in good)
    for topic in ("glaucoma", "osteoporosis", "lung cancer"):
        assert sum(topic in question for question in questions) >= 4, topic
    assert sum(not row["answer"].strip() for row in rows) == 1
    assert questions["how is glaucoma treated?"] == 2
    exact = Counter((row["question"], row["answer"]) for row in good)
    assert max(exact.values()) == 2
    assert any(row["question"] != row["question"].strip() for row in good)
