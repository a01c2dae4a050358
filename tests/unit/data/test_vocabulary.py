"""Stems are those of the index, and rare words weigh more."""

from __future__ import annotations

import math
import sqlite3

import pytest

from medqa_cli.data.vocabulary import TOKENIZER, Vocabulary, count_words


@pytest.fixture
def vocabulary() -> Vocabulary:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE passages(number INTEGER PRIMARY KEY, title, text)")
    rows = [("Treating gout", "Gout is treated."), ("Gouts", "A treatment."), ("Acne", "An acne.")]
    database.executemany("INSERT INTO passages(title, text) VALUES (?, ?)", rows)
    for table, columns in (("words", "title, text"), ("titles", "title")):
        database.execute(f"CREATE VIRTUAL TABLE {table} USING fts5({columns}, tokenize = '{TOKENIZER}')")
        database.execute(f"INSERT INTO {table}(rowid, {columns}) SELECT number, {columns} FROM passages")
    count_words(database)
    database.commit()
    return Vocabulary(database)


def test_stems_equal_those_of_the_index(vocabulary: Vocabulary) -> None:
    assert vocabulary.stems(["treating", "treated", "gouts", "gout"]) == {"treat", "gout"}
    assert vocabulary.stem("Ménière") == "menier"
    assert vocabulary.stem("type_1") == "type 1"  # two words of the index
    assert vocabulary.stem("_") == "_"


def test_counts_are_of_titles_and_of_passages(vocabulary: Vocabulary) -> None:
    assert [(vocabulary.num_titles(stem), vocabulary.num_passages(stem)) for stem in ("gout", "treat", "lupu")] == [
        (2, 2), (1, 1), (0, 0)
    ]  # fmt: skip


def test_a_rare_word_weighs_more_than_a_common_one_and_an_unknown_word_most(vocabulary: Vocabulary) -> None:
    common, rare, unknown = (vocabulary.weight([stem]) for stem in ("gout", "acn", "lupu"))
    assert common < rare < unknown == math.log(4)
    assert vocabulary.weight(["gout", "acn"]) == pytest.approx(common + rare)
