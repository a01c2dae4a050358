"""The forms in which people have questions and answers: what each row of them becomes, and what is said of it."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.spreadsheets import write_xlsx
from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import convert
from medqa_cli.data.reading.shapes import ColumnNames, RawRow, SourceRows, UnreadRow
from medqa_cli.data.reading.sources import open_sources
from medqa_cli.errors import InputError

Q1, A1 = "How is gout treated?", "Colchicine calms the joint."
Q2, A2 = "What is flu?", "An infection of the airways."
PAIR = [(Q1, A1)]
PAIRS = [(Q1, A1), (Q2, A2)]
ASKED = f"{Q1}\n(A) rest\n(B) iron\n(C) salt\n(D) bed"
TEXTS = ["rest", "iron", "salt", "bed"]
LETTERED = dict(zip("ABCD", TEXTS, strict=True))
INSTRUCTION = "If you are a doctor, answer the patient."


def read(path: Path, content: str | bytes, **wanted: Any) -> SourceRows:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_sources([str(path)], ColumnNames(**wanted))


def lines(*records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def pairs(opened: SourceRows) -> list[tuple[str, str]]:
    """Each row as question and answer, an unread one as its reason and its detail."""
    return [(row.question, row.answer) if isinstance(row, RawRow) else (row.reason, row.detail) for row in opened.rows]


def squad(*qas: Any) -> str:
    return json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": qas}]}]})


# Name of the file, its content, and the rows.
JSON_FORMS: dict[str, tuple[str, str, Sequence[tuple[str, str]]]] = {
    "instruction and empty input": ("a.jsonl", lines({"instruction": Q1, "input": "", "output": A1}), PAIR),
    "instruction and null input": ("a.jsonl", lines({"instruction": Q1, "input": None, "output": A1}), PAIR),
    "a sign for no input": ("a.jsonl", lines({"instruction": Q1, "input": "<noinput>", "output": A1}), PAIR),
    "instructions and inputs": (
        "a.jsonl",
        lines(
            {"instruction": "As a nurse.", "input": Q1, "output": A1}, {"instruction": Q2, "input": "", "output": A2}
        ),
        [(f"As a nurse.\n\n{Q1}", A1), (Q2, A2)],
    ),
    "one instruction for all inputs": (
        "a.jsonl",
        lines(*({"instruction": INSTRUCTION, "input": q, "output": a} for q, a in PAIRS)),
        PAIRS,
    ),
    "an input under other names": (
        "a.jsonl",
        lines(
            {"query": "Can I?", "input": "I am pregnant.", "response": A1},
            {"query": Q2, "input": "", "response": A2},
        ),
        [("Can I?\n\nI am pregnant.", A1), (Q2, A2)],
    ),
    "a context that is a case": (
        "a.jsonl",
        lines(
            {"question": "Can he?", "context": "My son is four.", "completion": A1},
            {"question": "Can he?", "context": "My son is a diabetic.", "completion": A2},
            {"question": Q2, "context": "I am old.", "completion": A2},
        ),
        [("Can he?\n\nMy son is four.", A1), ("Can he?\n\nMy son is a diabetic.", A2), (f"{Q2}\n\nI am old.", A2)],
    ),
    "a history in words": (
        "a.jsonl",
        lines(*({"question": Q1, "history": f"a smoker of {age}", "answer": A1} for age in ("52", "60"))),
        [("a smoker of 52", A1), ("a smoker of 60", A1)],
    ),
    "a passage that the answer is from": (
        "a.jsonl",
        lines(*({"question": q, "context": f"It is long known: {a} And so on and on.", "answer": a} for q, a in PAIRS)),
        PAIRS,
    ),
    "an input of addresses": (
        "a.jsonl",
        lines(*({"prompt": q, "input": f"doc_{q[5]}1", "completion": a} for q, a in PAIRS)),
        PAIRS,
    ),
    "the same input on each row": (
        "a.jsonl",
        lines(*({"query": q, "input": "You are a doctor.", "output": a} for q, a in PAIRS)),
        PAIRS,
    ),
    "empty histories": (
        "a.jsonl",
        lines(
            {"question": Q1, "answer": A1, "history": []},
            {"question": Q2, "answer": A2, "history": [["", ""]]},
            {"question": Q1, "answer": A1, "history": "[]"},
            {"question": Q2, "answer": A2, "history": None},
        ),
        [*PAIRS, *PAIRS],
    ),
    "history of turns": (
        "a.jsonl",
        lines({"question": "And is it?", "answer": A1, "history": [[Q1, "Wait."]]}, {"question": Q2, "answer": A2}),
        [("several_turns", "column 'history' holds 1 earlier turn"), (Q2, A2)],
    ),
    "history of messages": (
        "a.jsonl",
        lines({"question": "And?", "answer": A1, "history": [{"role": "user", "content": Q1}, {"role": "bot"}]}),
        [("several_turns", "column 'history' holds 2 earlier turns")],
    ),
    "topic that is a list": ("a.jsonl", lines({"question": Q1, "answer": A1, "topic": ["lungs", "chest"]}), PAIR),
    "list of one text": ("a.json", json.dumps([{"question": [Q1], "answer": [[A1]]}]), PAIR),
    "list of one text, written down": ("a.jsonl", lines({"question": f"['{Q1}']", "answer": f'["{A1}"]'}), PAIR),
    "several wordings of a question": ("a.jsonl", lines({"questions": [[Q1, "Gout?"]], "answers": [A1]}), PAIR),
    "several answers": (
        "a.jsonl",
        lines({"question": Q1, "answer": [A1, A2]}, {"question": Q2, "answer": [A2, A2]}),
        [("several_answers", "column 'answer' holds 2 texts"), (Q2, A2)],
    ),
    "an object for an answer": (
        "a.jsonl",
        lines({"question": Q1, "answer": {"short": "x", "long": "y"}}, {"question": {"text": Q2}, "answer": A2}),
        [("not_text", "column 'answer' holds an object with the keys 'short', 'long'"), (Q2, A2)],
    ),
    "options in a list": ("a.jsonl", lines({"question": Q1, "options": TEXTS, "answer": "B"}), [(ASKED, "iron")]),
    "options by letter and an answer in words": (
        "a.jsonl",
        lines({"question": Q1, "options": LETTERED, "answer": "Iron.", "answer_idx": "B"}),
        [(ASKED, "iron")],
    ),
    "options of ARC": (
        "a.jsonl",
        lines({"question": Q1, "choices": {"text": TEXTS, "label": list("ABCD")}, "answerKey": "D"}),
        [(ASKED, "bed")],
    ),
    "options as key and value": (
        "a.jsonl",
        lines({"question": Q1, "options": [{"key": k, "value": v} for k, v in LETTERED.items()], "answer": "(c)"}),
        [(ASKED, "salt")],
    ),
    "options in one text": (
        "a.jsonl",
        lines({"question": Q1, "options": "A. rest\nB. iron\nC. salt\nD. bed", "answer": "Option A"}),
        [(ASKED, "rest")],
    ),
    "options that the question holds already": (
        "a.jsonl",
        lines({"question": ASKED, "options": TEXTS, "answer": "C. salt"}),
        [(ASKED, "salt")],
    ),
    "numbers from 0": (
        "a.jsonl",
        lines(*({"question": Q1, "choices": TEXTS, "answer": number} for number in (0, 3))),
        [(ASKED, "rest"), (ASKED, "bed")],
    ),
    "numbers from 1": (
        "a.jsonl",
        lines(
            *(
                {"question": Q1, **dict(zip(("opa", "opb", "opc", "opd"), TEXTS, strict=True)), "cop": number}
                for number in (1, 4)
            )
        ),
        [(ASKED, "rest"), (ASKED, "bed")],
    ),
    "numbers, and an option without a text": (
        "a.jsonl",
        lines(*({"question": Q1, "choices": ["rest", "", "iron"], "answer": number} for number in (0, 2, 1))),
        [
            (f"{Q1}\n(A) rest\n(C) iron", "rest"),
            (f"{Q1}\n(A) rest\n(C) iron", "iron"),
            ("unresolved_option", "'1' is none of its 2 options"),
        ],
    ),
    "options by number": (
        "a.jsonl",
        lines({"question": Q1, "option1": "rest", "option2": "iron", "answer": "2"}),
        [(f"{Q1}\n(1) rest\n(2) iron", "iron")],
    ),
    "numbers that are texts of options": (
        "a.jsonl",
        lines({"question": "How many?", "options": ["2", "3"], "answer": "3"}),
        [("How many?\n(A) 2\n(B) 3", "3")],
    ),
    "several right options": (
        "a.jsonl",
        lines({"question": Q1, "option": LETTERED, "answer": "AC"}),
        [(ASKED, "rest; salt")],
    ),
    "an option that there is not": (
        "a.jsonl",
        lines({"question": Q1, "options": TEXTS, "answer": "E"}, {"question": Q1, "options": TEXTS, "answer": "A"}),
        [("unresolved_option", "'E' is none of its 4 options"), (ASKED, "rest")],
    ),
    "options in words": (
        "a.jsonl",
        lines({"question": Q1, "options": "rest or iron", "answer": "Iron helps."}),
        [(f"{Q1}\nrest or iron", "Iron helps.")],
    ),
    "object of records": ("a.json", json.dumps({"10": {"question": Q1, "answer": A1}, "11": {}}), [*PAIR, ("", "")]),
    "an object of records beside others": (
        "a.json",
        json.dumps({"version": 1, "info": {"by": "x"}, "data": {"a": {"question": Q1, "answer": A1}}}),
        PAIR,
    ),
    "an object of records deep inside": (
        "a.json",
        json.dumps({"all": {"version": 1, "data": {"items": {"a": {"question": Q1, "answer": A1}}}}}),
        PAIR,
    ),
    "a list deep inside": ("a.json", json.dumps({"v": 1, "data": {"items": [{"question": Q1, "answer": A1}]}}), PAIR),
    "a record within each": (
        "a.jsonl",
        lines(*({"id": 1, "qa": {"question": q, "answer": a}} for q, a in PAIRS), {"id": 3, "qa": None}),
        [*PAIRS, ("", "")],
    ),
    "groups of records": (
        "a.json",
        json.dumps({"x": {"1": {"question": Q1, "answer": A1}}, "y": {"1": {"question": Q2, "answer": A2}}}),
        PAIRS,
    ),
    "columns of pandas": ("a.json", json.dumps({"question": {"0": Q1, "1": Q2}, "answer": {"0": A1, "1": A2}}), PAIRS),
    "lists of columns": ("a.json", json.dumps({"question": [Q1, Q2], "answer": [A1, A2]}), PAIRS),
    "split form of pandas": ("a.json", json.dumps({"columns": ["question", "answer"], "data": [[Q1, A1]]}), PAIR),
    "answers by question": ("a.json", json.dumps(dict(PAIRS)), PAIRS),
    "one record": ("a.json", json.dumps({"question": Q1, "answer": A1}, indent=1), PAIR),
    "rows beside features": (
        "a.json",
        json.dumps(
            {"features": [{"name": "question"}], "rows": [{"row_idx": 0, "row": {"question": Q1, "answer": A1}}]}
        ),
        PAIR,
    ),
    "SQuAD": (
        "a.json",
        squad(
            {"question": Q1, "answers": [{"text": A1, "answer_start": 1}, {"text": "x", "answer_start": 2}]},
            {"question": Q2, "answers": [], "is_impossible": True},
        ),
        [(Q1, A1), ("impossible_question", "")],
    ),
    "a paragraph of SQuAD on each line": (
        "a.jsonl",
        lines(
            {"context": "c", "qas": [{"question": Q1, "answers": [{"text": A1, "answer_start": 1}]}]},
            {"context": "c", "qas": [{"question": Q2, "answers": [], "is_impossible": True}]},
            {"context": "c", "qas": [{"question": Q1, "answers": [{"text": A1}]}, {"question": Q2, "answer": A2}]},
            {"context": "c", "qas": []},
        ),
        [(Q1, A1), ("impossible_question", ""), (Q1, A1), (Q2, A2), ("invalid_json", "")],
    ),
    "SQuAD of the hub": (
        "a.jsonl",
        lines({"question": Q1, "context": "c", "answers": {"text": [A1, "x"], "answer_start": [1, 2]}}),
        PAIR,
    ),
    "JSON Lines in .txt": ("a.txt", lines(*({"question": q, "answer": a} for q, a in PAIRS)), PAIRS),
    "a JSON list in .csv": ("a.csv", json.dumps([{"question": Q1, "answer": A1}], indent=1), PAIR),
    "a JSON list in .jsonl": ("a.jsonl", json.dumps([{"question": Q1, "answer": A1}], indent=1), PAIR),
    "lines that are messages": (
        "a.jsonl",
        lines(*([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in PAIRS)),
        PAIRS,
    ),
    "roles of a practice": (
        "a.jsonl",
        lines(
            {"messages": [{"role": "patient", "content": Q1}, {"role": "Doctor", "content": A1}]},
            {"messages": [{"from": "病人", "value": Q2}, {"from": "医生", "value": A2}]},
        ),
        PAIRS,
    ),
    "roles in other languages": (
        "a.jsonl",
        lines(
            {"messages": [{"role": "Patientin", "content": Q1}, {"role": "A\u0308rztin", "content": A1}]},
            {"messages": [{"role": "患者", "content": Q2}, {"role": "医師", "content": A2}]},
            {"messages": [{"from": "paciente", "value": Q1}, {"from": "MÉDICO", "value": A1}]},
            {"messages": [{"from": "пациент", "value": Q2}, {"from": "врач", "value": A2}]},
        ),
        [*PAIRS, *PAIRS],
    ),
    "a role that is not known": (
        "a.jsonl",
        lines(
            {"messages": [{"role": "user", "content": Q1}, {"role": "assistant", "content": A1}]},
            {"messages": [{"role": "user", "content": Q1}, {"role": "tool", "content": A1}]},
        ),
        [*PAIR, ("not_rendered_form", "the roles are 'user', 'tool'")],
    ),
    "turns by role": ("a.jsonl", lines({"conversation": [{"human": Q1, "assistant": A1}]}), PAIR),
    "utterances": ("a.jsonl", lines({"description": "x", "utterances": [f"patient: {Q1}", f"doctor: {A1}"]}), PAIR),
    "a dialogue": (
        "a.jsonl",
        lines(
            {"dialogue": f"Patient: {Q1} Doctor: {A1}"},
            {"dialogue": f"病人：{Q2}\n医生：{A2}"},
            {"dialogue": "patient: I cough doctor: rest it"},
            {"dialogue": "Patient: I cough.\nDoctor: Since when?\nPatient: Monday.\nDoctor: Rest."},
        ),
        [*PAIRS, ("I cough", "rest it"), ("several_turns", "")],
    ),
    "question and answer in one text, in other languages": (
        "a.jsonl",
        lines(
            {"text": f"Frage: {Q1}\nAntwort: {A1}"},
            {"text": f"**Pregunta:** {Q2} **Respuesta:** {A2}"},
            {"text": f"質問：{Q1}\n回答：{A1}"},
            {"text": f"Câu hỏi: {Q2}\nTrả lời: {A2}"},
            {"text": f"### Anweisung:\n{Q1}\n\n### Antwort:\n{A1}"},
        ),
        [*PAIRS, *PAIRS, *PAIR],
    ),
    "question and answer in one text": ("a.jsonl", lines({"text": f"Question: {Q1}\nAnswer: {A1}"}), PAIR),
}
TABLES: dict[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "options A to D": (f"question,A,B,C,D,correct\n{Q1},rest,iron,salt,bed,B\n", [(ASKED, "iron")]),
    "options by name": (
        f"Question,Option A,Option B,Option C,Option D,Answer\n{Q1},rest,iron,salt,bed,(D)\n",
        [(ASKED, "bed")],
    ),
    "options as Python prints them": (f'question,options,answer_idx\n{Q1},"{TEXTS}",A\n', [(ASKED, "rest")]),
    "letters that are no options": (f"question,answer,a,b\n{Q1},{A1},1,2\n{Q2},{A2},3,4\n", PAIRS),
    "q and a alone": (f"q,a\n{Q1},{A1}\n", PAIR),
    "an index column": (f"Unnamed: 0,question ,Answer  \n0,{Q1},{A1}\n", PAIR),
    "a title above the header": (f"FAQ of 2024,,\n,,\nid,question,answer\n1,{Q1},{A1}\n", PAIR),
    "tabs in .csv": (f"question\tanswer\n{Q1}\t{A1}\n", PAIR),
    "quotes with backslashes": (
        'question,answer\n"Is it \\"bad\\"?","Yes, \\"very\\", C:\\\\x"\n"Two\\\nlines?","No"\n',
        [('Is it "bad"?', 'Yes, "very", C:\\x'), ("Two\nlines?", "No")],
    ),
    "a backslash before the end of a cell": (
        'question,answer\n"Where is ""x""?","In C:\\dir\\"\n"What?","a, ""b"""\n',
        [('Where is "x"?', "In C:\\dir\\"), ("What?", 'a, "b"')],
    ),
}


@pytest.mark.parametrize(("name", "content", "expected"), JSON_FORMS.values(), ids=JSON_FORMS)
def test_a_form_of_json_is_read(tmp_path: Path, name: str, content: str, expected: Sequence[tuple[str, str]]) -> None:
    assert pairs(read(tmp_path / name, content)) == list(expected)


@pytest.mark.parametrize(("content", "expected"), TABLES.values(), ids=TABLES)
def test_a_form_of_a_table_is_read(tmp_path: Path, content: str, expected: Sequence[tuple[str, str]]) -> None:
    assert pairs(read(tmp_path / "a.csv", content)) == list(expected)


@pytest.mark.parametrize(
    ("answer", "told", "said"),
    [
        ("explanation", ["Iron refills the stores.", "A", "2"], "the answer is column 'explanation' as it stands"),
        ("solution", ["iron", "salt", "bed"], "the answer is the text of the option that column 'solution' names"),
    ],
)
def test_a_named_answer_column_is_taken_as_it_stands_unless_it_names_options(
    tmp_path: Path, answer: str, told: list[str], said: str
) -> None:
    explained = zip("BCD", ["Iron refills the stores.", "A", "2"], strict=True)
    content = lines(
        *(
            {"question": Q1, **LETTERED, "correct": sign, "explanation": text, "solution": sign}
            for sign, text in explained
        )
    )
    opened = read(tmp_path / "a.jsonl", content, answer=answer)
    assert pairs(opened) == [(ASKED, text) for text in told]
    assert said in opened.warnings[-1]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (["A", "C"], "rest; salt"),
        (["rest", "salt", "bed"], "rest; salt; bed"),
        ('["a", "(C)"]', "rest; salt"),
        ("A | C", "rest; salt"),
        (["B. iron"], "iron"),
        ([0, 2], "rest; salt"),
        ("0,2", "rest; salt"),
        ([True, False, True, False], "rest; salt"),
        ([1, 0, 0, 1], "rest; bed"),
        ([0, 0, 0, 0], ("unresolved_option", "'0' is none of its 4 options")),
        (["A", "Z"], ("several_answers", "column 'answer' holds 2 texts")),
        (["rest", "and drink"], ("several_answers", "column 'answer' holds 2 texts")),
    ],
)
def test_a_list_of_right_options_is_all_of_them_or_no_answer(
    tmp_path: Path, right: object, expected: str | tuple[str, str]
) -> None:
    by_number = [{"question": Q2, "options": TEXTS, "answer": number} for number in (0, 3)]
    opened = read(tmp_path / "a.jsonl", lines({"question": Q1, "options": TEXTS, "answer": right}, *by_number))
    assert pairs(opened)[0] == ((ASKED, expected) if isinstance(expected, str) else expected)
    assert "the answer is the text of the option that column 'answer' names" in opened.warnings[-1]


IN_LETTERS = ("question", "opa", "opb", "opc", "opd")
IN_NUMBERS = ("question", "option1", "option2", "option3", "option4")


def table(header: Sequence[str], right: str, told: Sequence[object], options: Sequence[object] = TEXTS) -> str:
    """A CSV file of multiple-choice questions, of which each row tells the right option in its last column."""
    rows = [(f"Which one helps with {number}?", *options, tells) for number, tells in enumerate(told)]
    return "".join(",".join(map(str, row)) + "\n" for row in [(*header, right), *rows])


@pytest.mark.parametrize(
    ("header", "told", "first"),
    [
        (IN_LETTERS, [1, 3, 0, 2], ["iron", "bed", "rest"]),  # 0 to 3 by any row
        (IN_LETTERS, [1, 2, 4, 3], ["rest", "iron", "bed"]),
        (IN_LETTERS, [1, 2, 1, 0], ["iron", "salt", "iron"]),  # 3 is never right
        (IN_LETTERS, [*[1, 2, 3] * 500, 4], ["rest", "iron", "salt"]),  # told by the last row of the file alone
        (IN_LETTERS, [*[1, 2, 3] * 500, 0], ["iron", "salt", "bed"]),
        (IN_LETTERS, [1, 2, 3, 4] * 10 + [0], ["rest", "iron", "salt"]),  # one slip
        (IN_LETTERS, ["c", "a", "b"], ["salt", "rest", "iron"]),
        (IN_NUMBERS, [1, 3, 0], ["iron", "bed", "rest"]),  # from 0, though the options are called 1 to 4
        (IN_NUMBERS, [1, 3, 4], ["rest", "salt", "bed"]),
        (IN_NUMBERS, [1, 3, 2], ["rest", "salt", "iron"]),  # the numbers are their names
    ],
)
def test_numbers_of_options_are_decided_by_the_whole_file(
    tmp_path: Path, header: Sequence[str], told: Sequence[object], first: list[str]
) -> None:
    opened = read(tmp_path / "a.csv", table(header, "cop", told))
    assert [answer for _, answer in pairs(opened)[:3]] == first


def test_numbers_that_are_texts_of_options_are_texts(tmp_path: Path) -> None:
    doses = read(tmp_path / "a.csv", table(IN_NUMBERS, "answer", [2, 4, 8, 6], [2, 4, 6, 8]))
    assert [answer for _, answer in pairs(doses)] == ["2", "4", "8", "6"]


@pytest.mark.parametrize("told", [7, -1, "e"])
def test_a_sign_that_names_no_option_rejects_its_row_by_name(tmp_path: Path, told: object) -> None:
    opened = read(tmp_path / "a.csv", table(IN_LETTERS, "cop", [0, 1, told, 3]))
    rows = list(opened.rows)
    assert [type(row) for row in rows] == [RawRow, RawRow, UnreadRow, RawRow]
    assert isinstance(rows[2], UnreadRow)
    assert (rows[2].reason, rows[2].line, rows[2].detail) == (
        "unresolved_option",
        4,
        f"'{told}' is none of its 4 options",
    )


def test_numbers_that_count_from_0_and_from_1_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"from 0 or from 1: the numbers are 0 to 4, of 4 options"):
        read(tmp_path / "a.csv", table(IN_LETTERS, "cop", [0, 1, 4, 3]))


@pytest.mark.parametrize(
    "name", ["Correct Answer", "CORRECT ANSWER", "correctAnswer", "correct_option", "Right option"]
)
def test_the_right_option_is_found_under_each_spelling_of_its_column(tmp_path: Path, name: str) -> None:
    opened = read(tmp_path / "a.csv", table(("Question", "A", "B", "C", "D"), name, ["B", "D", "A"]))
    assert [answer for _, answer in pairs(opened)] == ["iron", "bed", "rest"]


@pytest.mark.parametrize("first", [0, 1])
def test_head_qa_is_read(tmp_path: Path, first: int) -> None:
    asked: list[dict[str, Any]] = [
        {
            "qid": str(number),
            "qtext": f"Which one helps with {number}?",
            "ra": number % 3 + first,
            "answers": [{"aid": place, "atext": text} for place, text in enumerate(TEXTS, start=first)],
        }
        for number in range(4)
    ]
    whole = {"version": "1.0", "exams": {"one": {"name": "one", "data": asked}}}
    by_columns = [
        record | {"answers": {key: [answer[key] for answer in record["answers"]] for key in ("aid", "atext")}}
        for record in asked
    ]
    exams = {name: {"name": name, "data": asked[part]} for name, part in (("x", slice(1)), ("y", slice(1, None)))}
    for name, content in (
        ("a.json", json.dumps(whole)),
        ("d.json", json.dumps({"version": "1.0", "language": "en", "exams": exams})),
        ("b.jsonl", lines(*asked)),
        ("c.jsonl", lines(*by_columns)),
    ):
        opened = read(tmp_path / name, content)
        assert [answer for _, answer in pairs(opened)] == ["rest", "iron", "salt", "rest"]
        assert "option that column 'ra' names" in opened.warnings[-1]


def test_a_title_above_the_header_of_a_sheet(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "a.xlsx", {"FAQ": [["Our questions", None], ["question", "answer"], [Q1, A1]]})
    opened = open_sources([str(path)], ColumnNames())
    assert "below 1 line of title" in opened.description
    assert pairs(opened) == PAIR


def test_what_optional_columns_hold_rejects_no_row(tmp_path: Path) -> None:
    record = {"question": Q1, "answer": A1}
    content = lines(
        {**record, "topic": ["lungs", "chest"], "source": ["a", "b"], "qtype": []},
        {**record, "topic": [], "source": {"id": 1}, "qtype": {}},
        {**record, "topic": {"name": "x"}, "source": "c", "qtype": "treatment"},
    )
    opened = read(tmp_path / "a.jsonl", content)
    rows = [row for row in opened.rows if isinstance(row, RawRow)]
    assert [(row.topic, row.source, row.kind) for row in rows] == [
        ("lungs, chest", "a, b", ""),
        ("", "a.jsonl", ""),
        ("", "c", "treatment"),
    ]
    assert opened.warnings == (
        "column 'topic' is ignored where it holds an object with the keys 'name'",
        "column 'source' is ignored where it holds an object with the keys 'id'",
        "column 'qtype' is ignored where it holds an empty object",
    )


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"question": Q1, "answer": A1, "context": "c"}, ["column 'context' is not used: a question that cannot"]),
        (
            {"question": Q1, "answer": "yes", "LONG_ANSWER": A1},
            ["column 'LONG_ANSWER' is not used", "--set data.answer_column=LONG_ANSWER"],
        ),
        ({"question": Q1, "answer": "B", "id": "1"}, ["holds single letters", "no column of options is found"]),
        ({"question": Q1, "answer": A1, "history": "a smoker of 52"}, ["column 'history' is not used"]),
        ({"question": Q1, "answer": A1, "questionTitle": "Gout"}, ["column 'questionTitle' is not used"]),
        ({"question": Q1, "answer": A1, "caseText": "A man."}, ["column 'caseText' is not used"]),
        ({"question": Q1, "answer": A1, "input": "I am pregnant"}, ["column 'input' is not used: a question that"]),
        (
            {"question": Q1, **LETTERED, "correct": "A", "explanation": A1},
            ["column 'explanation' is not used", "--set data.answer_column=explanation"],
        ),
        ({"question": Q1, "A": "x", "B": "y", "answer": "A"}, ["multiple-choice questions", "('A' 'B')"]),
        (
            {"instruction": INSTRUCTION, "input": Q1, "output": A1},
            ["the question is column 'input'", repr(INSTRUCTION), "prompt.system"],
        ),
        ({"questions": [Q1, Q2], "answer": A1}, ["several wordings of a question (2 of the first 2 rows)"]),
    ],
)
def test_what_is_left_out_of_the_rows_is_said(tmp_path: Path, record: Any, said: list[str]) -> None:
    opened = read(tmp_path / "a.jsonl", lines(record, record))
    told = "\n".join(opened.warnings)
    assert [text for text in said if text not in told] == []


@pytest.mark.parametrize(
    "name",
    ["dialogHistory", "chatHistory", "Chat History", "past", "previous_turns", "messageHistory", "Prior-Messages"],
)
def test_a_history_is_found_under_each_spelling_of_its_name(tmp_path: Path, name: str) -> None:
    opened = read(tmp_path / "a.jsonl", lines({"question": "And is it?", "answer": A1, name: [[Q1, "Wait."]]}))
    assert pairs(opened) == [("several_turns", f"column '{name}' holds 1 earlier turn")]


@pytest.mark.parametrize(
    ("answers", "passage", "is_asked"),
    [
        ((A1, A2), "Intro {n}. {a} More.", False),
        (("Rest it", "A scan"), "{n}: rest  it! And a SCAN.", False),
        (("休息", "喝水"), "{n}请休息，喝水。", False),
        (("No", "Yes"), "I am {n}, with no fever. Yes, I smoke.", True),
        ((A1, A2), "I am {n} and pregnant.", True),
    ],
)
def test_a_passage_that_holds_the_answer_is_no_part_of_the_question(
    tmp_path: Path, answers: tuple[str, str], passage: str, is_asked: bool
) -> None:
    rows = [(Q1, answers[0], "31"), (Q2, answers[1], "46")]
    records = [{"question": q, "answer": a, "context": passage.format(a=a, n=n)} for q, a, n in rows]
    asked = [record["question"] + f"\n\n{record['context']}" * is_asked for record in records]
    assert [question for question, _ in pairs(read(tmp_path / "a.jsonl", lines(*records)))] == asked


def test_a_column_that_follows_the_question_is_said_once(tmp_path: Path) -> None:
    records = [{"query": q, "input": age, "output": a} for (q, a), age in zip(PAIRS, ("I am old.", ""), strict=True)]
    opened = read(tmp_path / "a.jsonl", lines(*records))
    assert opened.columns.describe() == "question 'query' + 'input', answer 'output'"
    told = "each question is column 'query' and behind it column 'input', where that holds something"
    assert opened.warnings == (f"{told} (1 of the first 2 rows)",)


def test_a_column_of_questions_for_answers_is_said(tmp_path: Path) -> None:
    opened = read(tmp_path / "a.jsonl", lines(*({"question": f"I am {n}.", "answer": Q1} for n in "abc")))
    assert opened.warnings == ("column 'answer' holds questions (3 of the first 3 rows), not answers",)


def test_columns_that_are_not_used_are_listed(tmp_path: Path) -> None:
    opened = read(tmp_path / "a.csv", f",id,question,answer\n0,1,{Q1},{A1}\n")
    used = "question 'question', answer 'answer'"
    assert opened.columns.describe() == f"{used}; not used: 'id' and 1 column without a name"
    assert opened.warnings == ()


def test_columns_without_a_name_are_counted(tmp_path: Path) -> None:
    opened = read(tmp_path / "a.csv", f";question;answer;;\n0;{Q1};{A1};;\n")
    assert opened.columns.describe() == "question 'question', answer 'answer'; not used: 3 columns without a name"


@pytest.mark.parametrize(
    ("header", "question", "answer", "topic"),
    [
        ("Nr,FRAGE,Antwort,Thema", "FRAGE", "Antwort", "Thema"),
        ("Tema,Pregunta,Respuesta", "Pregunta", "Respuesta", "Tema"),
        ("Thème,Question,Réponse", "Question", "Réponse", "Thème"),
        ("Argomento,Domanda,Risposta", "Domanda", "Risposta", "Argomento"),
        ("Tema,Pergunta,Resposta", "Pergunta", "Resposta", "Tema"),
        ("pregunta,respuesta,enfermedad", "pregunta", "respuesta", "enfermedad"),
        ("问题,回答,疾病", "问题", "回答", "疾病"),
        ("Frage,question,answer,Krankheit", "question", "answer", "Krankheit"),  # the English name wins
    ],
)
def test_columns_are_found_by_their_names_in_other_languages(
    tmp_path: Path, header: str, question: str, answer: str, topic: str
) -> None:
    names = header.split(",")
    opened = read(tmp_path / "a.csv", f"{header}\n{','.join('x' for _ in names)}\n")
    columns = opened.columns
    assert (names[columns.question], names[columns.answer]) == (question, answer)
    assert columns.topic is not None
    assert names[columns.topic] == topic


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("questionText,answerText", "--set data.question_column=questionText --set data.answer_column=answerText"),
        ("QUESTION,CONTEXTS,final_decision,LONG_ANSWER", "--set data.answer_column=LONG_ANSWER"),
        ("department,title,ask,answer", "--set data.question_column=ask"),
        ("Question Text,answer", "--set 'data.question_column=Question Text'"),
        ("Frage Text,Antwort", "--set 'data.question_column=Frage Text'"),
        ("questionID,questionTitle,questionText,answer", "--set data.question_column=questionText"),
        ("id,body,ideal_answer", "--set data.question_column=body --set data.answer_column=ideal_answer"),
        ("context,target", "--set data.question_column=context"),
        ("question,Free_form_answer,Must_have", "--set data.answer_column=Free_form_answer"),
    ],
)
def test_the_hint_for_a_near_name_works(tmp_path: Path, header: str, hint: str) -> None:
    row = ",".join("text" for _ in header.split(","))
    with pytest.raises(InputError, match="did you mean '") as caught:
        read(tmp_path / "a.csv", f"{header}\n{row}\n")
    assert caught.value.hint.endswith(hint)
    settings = [part.strip(" '").partition("=") for part in hint.split("--set ")[1:]]
    wanted = {key.removeprefix("data.").removesuffix("_column"): name for key, _, name in settings}
    assert pairs(read(tmp_path / "a.csv", f"{header}\n{row}\n", **wanted)) == [("text", "text")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", f"question,A,B,C\n{Q1},x,y,z\n", "'A', 'B', 'C' look like the options of a multiple-choice question"),
        (
            "a.jsonl",
            lines({"question": Q1, "options": TEXTS, "answer": 1}, {"question": Q1, "options": TEXTS, "answer": 2}),
            "cannot be told whether from 0 or from 1: the numbers are 1 to 2, of 4 options",
        ),
        ("a.txt", f"id=1\nhttps://x.org/1\nDescription\n{Q1}\nDialogue\n", "MedDialog's own form of text"),
        ("a.json", json.dumps({"123": "yes", "124": "no"}), "2 texts under keys that are not questions"),
        ("a.json", json.dumps({"train": [{"question": Q1}], "test": [{"question": Q2}]}), "2 lists of objects"),
    ],
)
def test_a_form_that_cannot_be_told_is_refused_by_name(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path / name, content)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("roles", [("gpt", "human"), ("speaker1", "speaker2"), ("user", "tool")])
def test_roles_that_are_not_known_are_named_with_their_rows_and_the_hint_works(
    tmp_path: Path, roles: tuple[str, str]
) -> None:
    asks, answers = roles
    content = lines(*({"messages": [{"role": asks, "content": q}, {"role": answers, "content": a}]} for q, a in PAIRS))
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.jsonl", content)
    assert f"most often found '{asks}', then '{answers}'" in caught.value.message
    assert f"all roles: '{asks}' in 2 rows, '{answers}' in 2 rows" in caught.value.message
    assert caught.value.hint.startswith("rename the role of who asks to 'user' and of who answers to 'assistant'")
    renamed = content.replace(f'"{answers}"', '"assistant"').replace(f'"role": "{asks}"', '"role": "user"')
    assert pairs(read(tmp_path / "b.jsonl", renamed)) == PAIRS


def test_the_hints_for_a_text_without_a_form_work(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.jsonl", lines({"text": f"{Q1} {A1}"}))
    assert caught.value.hint == "begin each question in 'text' with 'Question:' and each answer with 'Answer:'"
    assert pairs(read(tmp_path / "a.jsonl", lines({"text": f"Question: {Q1} Answer: {A1}"}))) == PAIR
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.jsonl", lines({"title": Q1, "text": A1}))
    assert caught.value.hint.endswith("--set data.question_column=NAME --set data.answer_column=NAME")
    assert pairs(read(tmp_path / "a.jsonl", lines({"title": Q1, "text": A1}), question="title", answer="text")) == PAIR


def test_a_saved_data_set_is_refused_with_the_command_that_makes_it_a_table(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "data-00000-of-00001.arrow").write_bytes(b"x")
    with pytest.raises(InputError, match=r"found only 1 \.arrow") as caught:
        open_sources([str(tmp_path / "saved")], ColumnNames())
    assert f"datasets.load_from_disk('{tmp_path}/saved').to_parquet('{tmp_path}/saved.parquet')" in caught.value.hint


def test_empty_tables_of_a_folder_are_passed_over_with_one_warning(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number, (question, answer) in enumerate(PAIRS):
        (folder / f"{number}.jsonl").write_text(lines({"question": question, "answer": answer}))
    for name, content in (("a.csv", ""), ("a.csv.gz", ""), ("b.json", "[]"), ("c.csv", "\n\n"), ("d.json", "{}")):
        (folder / name).write_text(content)
    opened = open_sources([str(folder)], ColumnNames())
    assert pairs(opened) == PAIRS
    empty = "'a.csv', 'a.csv.gz', 'b.json', 'c.csv', 'd.json'"
    told = f"passed over, since they hold no rows: 5 of 7 tables in {folder}: {empty}"
    assert opened.warnings == (told,)


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(console, "note", lambda text: None)
    monkeypatch.setattr(console, "warn", said.append)
    return said


def converted(path: Path, out: Path, **data: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Convert without holding anything out; return the report and the kept rows."""
    config = DataConfig(validation_fraction=0, test_fraction=0, **data)
    report = convert([str(path)], config, 42, lambda q, a, _: q + a, None, out)
    return report, [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_row_with_a_history_is_kept_only_where_the_reason_is_off(tmp_path: Path, warned: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines({"question": Q1, "answer": A1}, {"question": Q2, "answer": A2, "history": [["a", "b"]]}))
    report, rows = converted(path, tmp_path / "out")
    assert (report["rows"]["rejected"], [row["question"] for row in rows]) == ({"several_turns": 1}, [Q1])
    (entry,) = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert entry["detail"] == "column 'history' holds 1 earlier turn"
    assert json.loads(entry["text"]) == [Q2, A2, [["a", "b"]]]
    report, rows = converted(path, tmp_path / "out", reasons={"several_turns": False})
    assert (report["rows"]["rejected"], [row["question"] for row in rows]) == ({}, [Q1, Q2])


def test_a_table_of_no_usable_row_says_what_its_cells_hold(tmp_path: Path, warned: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines({"question": Q1, "answer": {"x": "private"}}))
    with pytest.raises(InputError) as caught:
        converted(path, tmp_path / "out")
    assert "not_text: column 'answer' holds an object with the keys 'x'" in caught.value.message
    assert "private" not in caught.value.message
    assert caught.value.hint.startswith("write one text into each cell")


def test_texts_of_web_pages_and_prompts_are_cleaned_and_counted(tmp_path: Path, warned: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        lines(
            {"question": "<s>问：\n感冒要吃抗生素吗？\n答：\n", "answer": "不需要。多喝水。</s>"},
            {"question": "<p>How is gout&nbsp;treated?</p>", "answer": "<ul><li>rest<li>p &lt; 0.05</ul>"},
            {"question": "How is mumps seen?", "answer": 'So: <img src="data:image/png;base64,iVBORw0KGgo=">'},
            {"question": "病人：胃疼要做什么检查？\\n医生：", "answer": "医生：可以做胃镜。"},
            {"question": "My jaw hurts.", "answer": "We take an X-ray.Patient: Will that hurt?"},
        )
    )
    report, rows = converted(path, tmp_path / "out")
    assert [(row["question"], row["answer"]) for row in rows] == [
        ("感冒要吃抗生素吗？", "不需要。多喝水。"),
        ("How is gout treated?", "- rest\n- p < 0.05"),
        ("How is mumps seen?", "So:"),
        ("胃疼要做什么检查？", "可以做胃镜。"),
    ]
    counts = {
        rule: report["cleaning"][rule] for rule in ("embedded_pictures", "html", "written_breaks", "prompt_marks")
    }
    assert counts == {"embedded_pictures": 1, "html": 1, "written_breaks": 1, "prompt_marks": 2}
    assert report["rows"]["rejected"] == {"several_turns": 1}


def test_an_unread_row_of_an_exchange_stays_unread(tmp_path: Path) -> None:
    talk = [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]
    (row,) = read(tmp_path / "a.jsonl", lines({"messages": talk})).rows
    assert isinstance(row, UnreadRow)
    assert (row.reason, row.otherwise) == ("several_turns", None)


NAMES = (
    *("question", "answer", "options", "choices", "A", "B", "correct", "cop", "history", "instruction", "input"),
    *("output", "topic", "source", "messages", "dialogue", "text", "context", "data", "paragraphs", "qas", "columns"),
    *("rows", "row", "row_idx", "role", "content", "is_impossible", "1", ""),
)
CELLS: tuple[Any, ...] = (
    *("", "A", "(C)", Q1, "['a','b']", '["x"]', "{'a': 1}", "[[", "A. x B. y", "Patient: a Doctor: b", "2.0", "nan"),
    *(None, 0, 3, -1, 10**30, 1.5, True, [], {}),
)


def odd_value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(9) if depth < 4 else 0
    if kind < 5:
        return draw.choice(CELLS)
    if kind < 7:
        return [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(NAMES): odd_value(draw, depth + 1) for _ in range(draw.randrange(4))}


def test_odd_values_end_in_rows_or_in_one_message(tmp_path: Path) -> None:
    """Whatever stands where a text should: each value becomes a row, an unread row or an InputError."""
    seen: Counter[str] = Counter()
    for seed in range(600):
        draw = random.Random(seed)
        names = {*draw.sample(NAMES, 3), *draw.choice([["question", "answer"], ["question", "options", "answer"], []])}
        records = [{name: odd_value(draw) for name in sorted(names)} for _ in range(3)]
        shapes = [lines(*records), json.dumps(records), json.dumps({"a": records, "b": odd_value(draw)})]
        shapes += [json.dumps(dict(enumerate(records))), json.dumps(records[0])]
        path = tmp_path / f"{seed}{draw.choice(['.json', '.jsonl', '.txt'])}"
        try:
            seen.update(type(row).__name__ for row in read(path, draw.choice(shapes)).rows)
        except InputError:
            seen["InputError"] += 1
    assert min(seen["RawRow"], seen["UnreadRow"], seen["InputError"]) > 50, seen
