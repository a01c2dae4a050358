"""Stems are those of the index, and rare words weigh more."""

import math
import sqlite3
from collections.abc import Sequence

import pytest

from medqa_cli.data.vocabulary import TOKENIZER, Vocabulary, count_words


def vocabulary_of(rows: Sequence[tuple[str, str]]) -> Vocabulary:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE passages(number INTEGER PRIMARY KEY, title, text)")
    database.executemany("INSERT INTO passages(title, text) VALUES (?, ?)", rows)
    for table, columns in (("words", "title, text"), ("titles", "title")):
        database.execute(f"CREATE VIRTUAL TABLE {table} USING fts5({columns}, tokenize = '{TOKENIZER}')")
        database.execute(f"INSERT INTO {table}(rowid, {columns}) SELECT number, {columns} FROM passages")
    count_words(database)
    database.commit()
    return Vocabulary(database)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return vocabulary_of([("Treating gout", "Gout is treated."), ("Gouts", "A treatment."), ("Acne", "An acne.")])


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


SPANISH = [
    ("Diabetes", "Para la persona con diabetes, que se mide el azúcar en la sangre todos los días."),
    ("El diabético", "Los diabéticos y las diabéticas pueden comer fruta, pero no mucha."),
    ("La operación", "Después de la operación se hace una vida normal, como siempre y sin dolor."),
]
FRENCH = [
    ("L'œil", "Les gouttes pour l'œil se mettent le soir, et elles sont dans une boîte."),
    ("Le cœur", "Le cœur est un muscle qui bat dans la poitrine, et il est avec les poumons."),
]


def test_the_languages_of_an_index_are_those_of_a_tenth_of_its_passages() -> None:
    english = [("What is gout?", "Gout is a form of arthritis that is caused by crystals in the joints.")]
    assert vocabulary_of(SPANISH).languages == ("es",)
    assert vocabulary_of(english * 9 + SPANISH).languages == ("en", "es")
    assert vocabulary_of(english * 900 + SPANISH).languages == ("en",)
    assert vocabulary_of([("Gout", "Gout")]).languages == ()
    assert vocabulary_of([]).languages == ()


def test_forms_of_a_spanish_word_are_one_that_all_their_passages_hold() -> None:
    vocabulary = vocabulary_of(SPANISH)
    stems = [vocabulary.stem(word) for word in ("diabetes", "diabético", "diabetica", "Diabéticas")]
    assert len(set(stems)) == 1
    assert (vocabulary.num_titles(stems[0]), vocabulary.num_passages(stems[0])) == (2, 3)
    assert vocabulary.stem("operar") == vocabulary.stem("operación") != vocabulary.stem("operístico")
    assert vocabulary.query("operar") == '"oper"*'


def test_a_french_word_is_found_by_either_spelling_of_its_ligature() -> None:
    vocabulary = vocabulary_of(FRENCH)
    assert vocabulary.stem("oeil") == vocabulary.stem("œil")
    assert vocabulary.num_passages(vocabulary.stem("coeur")) == 1
    found = vocabulary._database.execute("SELECT rowid FROM words WHERE words MATCH ?", (vocabulary.query("oeil"),))
    assert found.fetchall() == [(1,)]


def test_an_english_index_keeps_the_stems_of_sqlite(vocabulary: Vocabulary) -> None:
    assert vocabulary.stem("diabético") == "diabetico"
    assert vocabulary.stem("operar") != vocabulary.stem("operación")
    assert vocabulary.query("Gouts") == '"Gouts"'
