"""Sections as passages: where they are cut, how long they are, that no word is lost, which place each has."""

from __future__ import annotations

import re

import pytest

from medqa_cli.data.documents.passages import FEWEST_WORDS, MOST_WORDS, cut
from medqa_cli.data.documents.sections import Section


def section_of(text: str) -> Section:
    return Section((), text, tuple((found.start(), f"at {found[0]}") for found in re.finditer(r"\S+", text)))


def texts_of(text: str) -> list[str]:
    return [passage for passage, _ in cut(section_of(text))]


def sentences(count: int, words: int, first: int = 0) -> str:
    """Sentences that all differ."""
    return " ".join(f"Sentence{n} {'word ' * (words - 2)}ends." for n in range(first, first + count))


def test_a_short_section_is_one_passage() -> None:
    assert list(cut(section_of("Gout hurts. Rest."))) == [("Gout hurts. Rest.", "at Gout")]
    assert texts_of("") == []


def test_passages_end_with_sentences_and_hold_at_most_the_most_words() -> None:
    text = sentences(50, 10)
    found = list(cut(section_of(text)))
    assert [len(passage.split()) for passage, _ in found] == [160, 160, 180]  # the rest of 20 words joins the last
    assert " ".join(passage for passage, _ in found) == text
    assert [place for _, place in found] == ["at Sentence0", "at Sentence16", "at Sentence32"]


def test_an_end_that_is_long_enough_stays_a_passage() -> None:
    assert [len(text.split()) for text in texts_of(sentences(20, 10))] == [160, FEWEST_WORDS]


def test_a_paragraph_that_ends_late_ends_the_passage() -> None:
    text = f"{sentences(10, 10)}\n\n{sentences(10, 10, 10)}"
    assert texts_of(text) == text.split("\n\n")
    text = f"{sentences(3, 10)}\n\n{sentences(20, 10, 3)}"  # too early to end it there
    assert [len(passage.split()) for passage in texts_of(text)] == [160, 70]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 1000,
        "a" * 50_000,
        f"{'b' * 5000} {'word ' * 300}{'c' * 5000}",
        "痛" * 1000,
        "痛风是一种关节炎。" * 100,
        sentences(7, 200),
    ],
    ids=["no end", "one word", "long words", "signs", "chinese", "long sentences"],
)
def test_no_passage_is_endless_and_nothing_is_lost(text: str) -> None:
    found = texts_of(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert max(len(passage) for passage in found) <= 12 * (MOST_WORDS + FEWEST_WORDS)
    assert max(len(passage.split()) for passage in found) < MOST_WORDS + FEWEST_WORDS
    assert len(found) > 3


def test_a_list_stays_with_the_words_before_it_where_it_fits() -> None:
    text = f"{sentences(8, 10)}\n\nDo this:\n\n- wash\n- dry"
    assert texts_of(text) == [text]
