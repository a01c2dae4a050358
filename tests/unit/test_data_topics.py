"""Topics: where they come from, and which names are names of one thing."""

from __future__ import annotations

import itertools

import pytest

from medqa_cli.data.questions.topics import topic_names, topic_of


@pytest.mark.parametrize(
    "names",
    [
        ("Alzheimer disease", "Alzheimer's Disease", "Alzheimer’s disease", "Alzheimers disease"),
        ("Sjgren syndrome", "Sjogren's Syndrome", "Sjögren syndrome", "Sjgren's Syndrome"),
        ("cataract", "Cataracts", "CATARACT"),
        ("abscess", "Abscesses"),
        ("muscular dystrophy", "Muscular dystrophies"),
        ("heart  attack", "Heart attacks", "heart-attack"),
    ],
)
def test_spellings_of_one_topic(names: tuple[str, ...]) -> None:
    assert {topic_names(name) for name in names} == {topic_names(names[0])}
    assert len(topic_names(names[0])) == 1


def test_an_abbreviation_is_a_name_of_its_own() -> None:
    long = topic_names("chronic obstructive pulmonary disease (COPD)")
    assert set(topic_names("COPD")) < set(long)
    assert set(topic_names("Chronic Obstructive Pulmonary Disease")) < set(long)
    assert len(long) == 2
    assert topic_names("glaucoma (eye disease)") == ("glaucoma eye disease",)


@pytest.mark.parametrize(
    "pair",
    list(itertools.combinations(["diabetes type 1", "diabetes type 2", "hepatitis", "hepatitis B", "lupus"], 2)),
)
def test_different_topics_stay_different(pair: tuple[str, str]) -> None:
    assert not set(topic_names(pair[0])) & set(topic_names(pair[1]))


@pytest.mark.parametrize("missing", ["", " ", "NaN", "None", "n/a", "unknown", "-", "#N/A"])
def test_a_missing_topic_is_none(missing: str) -> None:
    assert topic_of("How late is it?", missing) == ""
    assert topic_of("What causes gout?", missing) == "gout"


def test_the_column_wins() -> None:
    assert topic_of("What causes gout?", " Gouty  arthritis ") == "Gouty arthritis"
    assert topic_names("") == ()
