"""The nearest reference answers: which rows are found, when nothing is close, which sentences have no support."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.data.ranking import content_words
from medqa_cli.data.retrieval import Passage, PassageIndex, unsupported_citations, unsupported_sentences, write_index
from medqa_cli.errors import InputError, MedqaError

ROWS = [
    ("How to treat glaucoma?", "Glaucoma is treated with eye drops that lower the pressure, with laser or surgery."),
    ("What is glaucoma?", "Glaucoma is a group of diseases that damage the optic nerve."),
    ("How to treat asthma?", "Asthma is treated with inhaled medicines. Avoid smoke."),
    ("How to treat eczema?", "Eczema is treated with creams."),
    ("How to treat migraine?", "Migraine is treated with pain relief and rest."),
    ("What is gout?", "Gout is a painful form of arthritis caused by uric acid crystals in a joint."),
    ("What are the symptoms of anemia?", "Tiredness and pale skin are the main symptoms."),
    *(
        (f"What is {name}?", f"{name.capitalize()} is known for long.")
        for name in ("measles", "rabies", "scurvy", "tetanus", "mumps", "rickets", "leprosy", "cholera")
    ),
]


@pytest.fixture
def library(tmp_path: Path) -> PassageIndex:
    lines = [
        {"id": f"r{n}", "question": q, "answer": a, "topic": q.split()[-1].strip("?"), "source": "test"}
        for n, (q, a) in enumerate(ROWS)
    ]
    lines.append({**lines[0], "id": "copy", "question": "Glaucoma: treatment", "paraphrase_of": "r0"})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return PassageIndex.of_folder(tmp_path)


def test_the_nearest_row_comes_first(library: PassageIndex) -> None:
    found = library.nearest("How is glaucoma treated?", 3)
    assert [each.id for each in found][:2] == ["r0", "r1"]
    assert found[0].score > found[1].score
    assert (found[0].topic, found[0].source, found[0].text) == ("glaucoma", "test", ROWS[0][1])
    assert len(library.nearest("How is glaucoma treated?", 1)) == 1


def test_paraphrases_of_a_row_are_not_shown_again(library: PassageIndex) -> None:
    assert "copy" not in {each.id for each in library.nearest("glaucoma treatment", 10)}


@pytest.mark.parametrize("question", ["How to repair a bicycle chain?", "What is lupus?", "", "?!", "what is the"])
def test_questions_of_other_things_have_no_nearest_rows(library: PassageIndex, question: str) -> None:
    assert library.nearest(question, 3) == []


GERMAN = [
    ("Wie wird Gicht behandelt?", "Im Anfall helfen Kühlen und Ibuprofen, später Allopurinol."),
    ("Können Sie mir erklären, was Migräne bedeutet?", "Von Migräne spricht man bei anfallsartigen Kopfschmerzen."),
    ("Woran erkenne ich Tinnitus?", "Ein Pfeifen oder Rauschen im Ohr, auch in der Nacht."),
    ("Welche Behandlung gibt es bei Asthma?", "Ein Spray mit Kortison, und ein Spray für den Notfall."),
    ("Was hilft gegen Heuschnupfen?", "Antihistaminika helfen. Bitte setzen Sie nichts eigenmächtig ab."),
]


@pytest.fixture
def german_library(tmp_path: Path) -> PassageIndex:
    lines = [
        {"id": f"r{n}", "question": question, "answer": answer, "topic": "", "source": "test"}
        for n, (question, answer) in enumerate(GERMAN)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return PassageIndex.of_folder(tmp_path)


@pytest.mark.parametrize(
    ("question", "nearest"),
    [
        ("Was kann ich bei einem Gichtanfall selbst tun?", "r0"),  # Gicht + Anfall
        ("Was hilft gegen Migräne?", "r1"),
        ("Wie benutze ich mein Asthmaspray richtig?", "r3"),
        ("Hilft Ibuprofen bei Gicht?", "r0"),  # "Hilft" has its capital from its place
        ("Was mache ich bei Heuschnupfen?", "r4"),
    ],
)
def test_a_german_question_finds_what_its_nouns_name(german_library: PassageIndex, question: str, nearest: str) -> None:
    assert german_library.nearest(question, 1)[0].id == nearest


@pytest.mark.parametrize(
    "question", ["Was hilft gegen Malaria?", "Wo kann ich mein Auto parken?", "Wie wird ein Tennisarm behandelt?"]
)
def test_a_german_question_about_another_thing_has_no_nearest_rows(german_library: PassageIndex, question: str) -> None:
    assert german_library.nearest(question, 3) == []


@pytest.mark.parametrize("question", ['gout" OR "gout', "gout AND NOT gout*", "NOT gout", "-gout", "^gout + gout"])
def test_the_syntax_of_the_search_is_plain_text(library: PassageIndex, question: str) -> None:
    assert [each.id for each in library.nearest(question, 5)] == ["r5"]


@pytest.mark.parametrize("question", ["NEAR(gout asthma)", "nothing:gout", "{gout}: asthma lupus"])
def test_words_that_stand_nowhere_do_not_hide_what_a_question_names(library: PassageIndex, question: str) -> None:
    assert "r5" in [passage.id for passage in library.nearest(question, 5)]


def test_a_missing_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data"):
        PassageIndex.of_folder(tmp_path / "absent")


def test_a_sqlite_without_fts5(library: PassageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if "fts5" in statement:
                raise sqlite3.OperationalError("no such module: fts5")
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", Plain)
    with pytest.raises(MedqaError, match=r"needs a SQLite with FTS5: no such module: fts5") as caught:
        PassageIndex.of_folder(tmp_path)
    assert "use a Python whose SQLite has it" in caught.value.hint


def test_sentences_without_support(library: PassageIndex) -> None:
    found = library.nearest("How to treat glaucoma?", 2)
    answer = "Glaucoma is treated with eye drops. Bananas cure every kind of blindness within days. Laser helps."
    texts = [passage.text for passage in found]
    assert unsupported_sentences(answer, texts) == ["Bananas cure every kind of blindness within days."]
    assert unsupported_sentences("", texts) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Gout is a disease of the joints. [1]", []),
        ("Gout is a disease of the joints. [2]", [2]),
        ("Gout is a disease of the joints. [1] [2]", [2]),
        ("Gout is a disease of the joints. [1] Glaucoma damages the optic nerve of eyes. [2]", []),
        ("Gout is a disease of the joints. [2] Glaucoma damages the optic nerve of eyes. [1]", [2, 1]),
        ("Gout is a disease of the joints [1]. Glaucoma damages the optic nerve of eyes [2].", []),
        ("Gout is a disease of the joints. [3] [0] [3]", [3, 0]),
        ("[2] Gout is a disease of the joints.", []),  # what it stands behind is not known
        ("Yes, surely. [1]", []),
        ("None of the sources answers this question. [2]", []),
        ("Gout is a disease of the joints.", []),
    ],
)
def test_citations_of_no_passage_or_of_one_about_something_else(answer: str, expected: list[int]) -> None:
    texts = [
        "What is gout? It is a painful disease of the joints.",
        "What is glaucoma? Damage to the nerve of the eye.",
    ]
    assert unsupported_citations(answer, texts, "None of the sources answers this question.") == expected


def test_a_citation_of_a_text_in_another_language_is_not_called_unsupported() -> None:
    answer = "La gota es una enfermedad que causa dolor en las articulaciones de los pies y de las manos. [{}]"
    texts = ["What is gout? It is a painful disease of the joints that comes with attacks in the feet and the hands."]
    assert [unsupported_citations(answer.format(number), texts, "None.") for number in (1, 2)] == [[], [2]]


def test_in_scripts_without_spaces_characters_are_what_supports() -> None:
    answer, texts = "糖尿病会引起口渴，多尿，疲劳，体重减轻。[1]", ["糖尿病的症状 糖尿病的症状包括口渴、多尿和疲劳。"]
    assert unsupported_citations(answer, texts, "None.") == []
    assert unsupported_sentences(answer.removesuffix("[1]"), texts) == []
    assert unsupported_citations("患者应戒烟，避免熬夜，坚持锻炼。[1]", texts, "None.") == [1]


def test_the_json_of_a_row_names_question_and_answer() -> None:
    assert Passage("r0", "row", "q", "a", "t", "s", score=1.5).as_json() == {
        "id": "r0", "question": "q", "answer": "a", "topic": "t", "source": "s", "score": 1.5
    }  # fmt: skip


def test_the_json_of_a_part_of_a_document_names_title_and_place() -> None:
    assert Passage("d0", "document", "Gout", "Text.", "", "gout.pdf", "page 3", 2.0).as_json() == {
        "id": "d0", "title": "Gout", "text": "Text.", "place": "page 3", "source": "gout.pdf", "score": 2.0
    }  # fmt: skip


def test_content_words_leave_out_what_every_question_has() -> None:
    assert content_words("What are the Symptoms of symptoms, in Ménière's disease?") == [
        "symptoms",
        "ménière",
        "disease",
    ]


def index_of(*titles: str) -> PassageIndex:
    return PassageIndex(Passage(f"p{n}", "row", title, "", "", "") for n, title in enumerate(titles))


def test_index_search_ranks_rare_words_first_and_takes_the_first_of_equals() -> None:
    index = index_of("what is gout", "what is mumps", "what is mumps", "how is it")
    assert [passage.id for passage in index.search("What is mumps?", 4)] == ["p1", "p2"]
    assert [passage.id for passage in index.search("What is?", 4)] == ["p0", "p1", "p2", "p3"]
    (best,), (first, second) = index.search("mumps", 1), index.search("mumps", 2)
    assert (best.id, second.id) == ("p1", "p2")
    assert best == first
    assert first.score == second.score
    assert index.search("lupus", 4) == []
    assert index.search("?!", 4) == []


def test_index_search_goes_on_until_enough_passages_are_accepted() -> None:
    index = index_of(*(f"gout {n}" for n in range(100)))
    assert [passage.id for passage in index.search("gout", 3, lambda passage: passage.id >= "p97")] == [
        "p97", "p98", "p99"
    ]  # fmt: skip
    assert [passage.id for passage in index.search("gout", 3, lambda passage: passage.id == "p99")] == ["p99"]
    assert index.search("gout", 3, lambda passage: False) == []


def test_index_search_reads_every_script() -> None:
    index = index_of("Что такое подагра", "Что такое астма")
    assert [passage.id for passage in index.search("Астма: что это?", 1)] == ["p1"]


def test_index_counts_a_word_of_the_title_more_than_one_of_the_text() -> None:
    texts = [("a", "gout"), ("gout", "a"), ("b", "b"), ("c", "c")]
    index = PassageIndex(Passage(title, "row", title, text, "", "") for title, text in texts)
    assert [passage.id for passage in index.search("gout", 2)] == ["gout", "a"]


def test_nearest_weighs_a_rare_word_more_than_two_common_ones() -> None:
    index = index_of("tell me of gout", "tell me of mumps", "tell me of acne", "tell me of it")
    assert index.nearest("tell gout", 4)[0].id == "p0"


def test_nearest_prefers_the_title_without_a_word_that_nobody_asked_for() -> None:
    index = index_of("What is right heart failure?", "What is heart failure?", "What is a heart?", "What is gout?")
    assert [passage.id for passage in index.nearest("heart failure, what is that", 2)] == ["p1", "p0"]


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("gout", "p0"),
        ("My mum has gout, which pills could be prescribed?", "p1"),
        ("by which signs can I recognize gout", "p2"),
        ("What are the complications of gout?", "p3"),
        ("What causes type 2 diabetes?", "p5"),
        ("hepatitis B causes", "p7"),
    ],
)
def test_nearest_tells_what_is_asked_from_the_form_or_the_words(question: str, best: str) -> None:
    index = index_of(
        "What is gout?",
        "What are the treatments for gout?",
        "What are the symptoms of gout?",
        "What are the complications of gout?",
        "What causes type 1 diabetes?",
        "What causes type 2 diabetes?",
        "What causes hepatitis A?",
        "What causes hepatitis B?",
    )
    assert index.nearest(question, 3)[0].id == best


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the treatment for gout?", [False, True, False, False]),
        ("by which signs can I recognize gout", [None, False, True, False]),  # "what is it" may tell signs too
        ("Tell me about gout.", [True, False, False, False]),
        ("What are the treatments for pseudogout?", [False, False, False, False]),
        ("What are the treatments for diabetes?", [False, False, False, True]),
        # A page on diabetes may say something about it, and may not.
        ("What are the treatments for neonatal diabetes in twins?", [False, False, False, None]),
    ],
)
def test_a_title_tells_what_its_row_answers(question: str, expected: list[bool | None]) -> None:
    titles = ("What is gout?", "What are the treatments for gout?", "What are the symptoms of gout?")
    index = index_of(*titles, "How to treat diabetes?", "Living with gout", "Twins", "Neonatal care")
    rows = list(index.passages())
    judged = index.judged(question, rows)
    assert [passage.answers for passage in judged[:4]] == expected
    assert [replace(passage, answers=None) for passage in judged] == rows
    # A title that is no question tells nothing, and neither does that of a document.
    assert {passage.answers for passage in judged[4:]} == {None}
    assert index.judged(question, [replace(rows[0], kind="document")])[0].answers is None


def test_nearest_finds_what_only_a_document_says() -> None:
    passages = [Passage(f"p{n}", "row", question, answer, "", "") for n, (question, answer) in enumerate(ROWS)]
    text = "In our clinic the inhaler is checked once a year by a nurse."
    index = PassageIndex([*passages, Passage("d0", "document", "Leaflet for patients", text, "", "leaflet.pdf")])
    assert [passage.id for passage in index.nearest("Who checks the inhaler once a year?", 3)] == ["d0"]


def test_common_words_are_left_out_of_the_search_where_rarer_ones_are_there() -> None:
    index = index_of(*(f"disease number {n}" for n in range(12_000)), "disease gout")
    assert index.nearest("disease gout", 1)[0].id == "p12000"
    assert len(index.nearest("disease", 3)) == 3


def test_a_written_index_finds_what_one_in_memory_finds(library: PassageIndex, tmp_path: Path) -> None:
    passages = library.search("glaucoma asthma gout measles", 20)
    assert write_index(tmp_path / "index.sqlite", passages) == len(passages) == 5
    written = PassageIndex.of_folder(tmp_path)
    for question in ("How is glaucoma treated?", "gout", "What is lupus?"):
        assert written.nearest(question, 3) == PassageIndex(passages).nearest(question, 3)


def test_an_index_of_equal_passages_has_equal_bytes(tmp_path: Path) -> None:
    passages = [Passage(f"r{n}", "row", q, a, "", "") for n, (q, a) in enumerate(ROWS * 50)]
    for name in ("one", "two"):
        write_index(tmp_path / name, passages)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + bytes(2000)])
def test_a_damaged_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"index\.sqlite (cannot be read: |has format 0)") as caught:
        PassageIndex.of_folder(tmp_path)
    assert caught.value.hint == "run medqa convert again"


def test_an_index_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path / "index.sqlite", [])
    with sqlite3.connect(tmp_path / "index.sqlite") as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match=r"has format 2; this medqa reads format 1"):
        PassageIndex.of_folder(tmp_path)


def tamper(folder: Path, *statements: str) -> None:
    write_index(folder / "index.sqlite", [Passage(f"r{n}", "row", q, a, "", "") for n, (q, a) in enumerate(ROWS)])
    with sqlite3.connect(folder / "index.sqlite") as database:
        for statement in statements:
            database.execute(statement)


ENDLESS = (
    "CREATE VIEW passages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS number, 'x' AS id, 'row' AS kind, 'gout' AS title, 'x' AS text, '' AS topic, '' AS source, "
    "'' AS place FROM n"
)


@pytest.mark.parametrize(
    "statements",
    [
        ("DROP TABLE frequencies",),
        ("ALTER TABLE passages RENAME TO others", ENDLESS),
        ("CREATE VIEW more AS SELECT 1",),
        ("ALTER TABLE passages ADD COLUMN more TEXT",),
    ],
)
def test_an_index_with_other_tables_is_refused_before_it_is_asked(tmp_path: Path, statements: tuple[str, ...]) -> None:
    tamper(tmp_path, *statements)
    with pytest.raises(InputError, match=r"index\.sqlite cannot be read: it has other tables"):
        PassageIndex.of_folder(tmp_path)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE passages SET title = NULL WHERE id = 'r5'", "a passage holds what is no text"),
        ("UPDATE passages SET text = 7 WHERE id = 'r5'", "a passage holds what is no text"),
        ("UPDATE passages SET topic = x'00ff' WHERE id = 'r5'", "a passage holds what is no text"),
        ("UPDATE passages SET kind = 'model' WHERE id = 'r5'", "is of an unknown kind"),
        ("DELETE FROM passages WHERE id = 'r5'", "passages are missing"),
    ],
)
def test_an_index_with_damaged_passages_is_refused_when_they_are_found(
    tmp_path: Path, statement: str, problem: str
) -> None:
    tamper(tmp_path, statement)
    index = PassageIndex.of_folder(tmp_path)
    assert index.nearest("What is asthma?", 1)
    for ask in (lambda: index.nearest("What is gout?", 1), lambda: index.search("gout", 1)):
        with pytest.raises(InputError, match=problem):
            ask()


def test_an_index_with_bytes_turned_over_is_refused_or_answers(tmp_path: Path) -> None:
    tamper(tmp_path)
    path = tmp_path / "index.sqlite"
    content = path.read_bytes()
    refusals = []
    for place in range(100, len(content), len(content) // 97):
        path.write_bytes(
            content[:place] + bytes(255 - byte for byte in content[place : place + 64]) + content[place + 64 :]
        )
        try:
            index = PassageIndex.of_folder(tmp_path)
            index.nearest("How is glaucoma treated?", 3)
            list(index.passages())
        except InputError as error:
            refusals.append(error.message)
    assert len(refusals) > 3
    assert all("cannot be read" in message or "has format" in message for message in refusals)
