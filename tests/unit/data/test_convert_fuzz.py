"""``medqa convert`` as a whole on thousands of odd tables: no traceback, no lost row, no leak, nothing half-written."""

import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.encodings import is_no_utf8
from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning.rules import RULES, clean, enabled_rules
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import SPLITS
from medqa_cli.errors import InputError
from medqa_cli.prompt.given import NOTHING, Given

SLOW = settings.get_profile("slow")
ENABLED = enabled_rules({})
FILES = {"README.md", "index.sqlite", "rejected.jsonl", "report.json", "train.jsonl", "validation.jsonl", "test.jsonl"}

Pair = tuple[str, str]
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "note", lambda text: None)


def render(question: str, answer: str, given: Given = NOTHING) -> str:
    return f"<{question}>{answer}"


class Result:
    """What a conversion wrote, after the checks that hold for any input."""

    def __init__(self, folder: Path, report: Json) -> None:
        # In odd texts a word may look like a name.
        found = {"identifiers.jsonl"} if report["identifiers"]["train_rows"] else set()
        assert {path.name for path in folder.iterdir()} == FILES | found
        assert report.items() == json.loads((folder / "report.json").read_text(encoding="utf-8")).items()
        self.report = report
        self.rejected = _lines(folder / "rejected.jsonl")
        rows = [row for split in SPLITS for row in _lines(folder / f"{split}.jsonl")]
        self.kept = [row for row in rows if not row.get("paraphrase_of")]
        assert len(rows) - len(self.kept) == report["paraphrases"]
        self._check_counts()
        self._check_texts(rows)
        leaks = [count for counts in report["leakage"].values() for count in counts.values()]
        assert set(leaks) <= {0, None}, report["leakage"]

    def _check_counts(self) -> None:
        counts = self.report["rows"]
        assert counts["read"] == counts["kept"] + sum(counts["rejected"].values())
        assert (counts["kept"], sum(self.report["splits"].values())) == (len(self.kept), len(self.kept))
        assert counts["rejected"] == dict(sorted(Counter(entry["reason"] for entry in self.rejected).items()))
        numbers = [entry["row"] for entry in self.rejected]
        assert numbers == sorted(set(numbers))
        assert set(numbers) <= set(range(1, counts["read"] + 1))

    def _check_texts(self, rows: Sequence[Json]) -> None:
        assert len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            assert row["question"].strip()
            assert row["answer"].strip()
            assert row["text"] == render(row["question"], row["answer"])
        for row in self.kept:
            again = clean(row["question"], row["answer"], ENABLED)
            assert (again.question, again.answer, again.changed) == (row["question"], row["answer"], ())

    def texts(self) -> list[str]:
        """Each row read, as one text: rejected ones as they were read, kept ones as they were cleaned."""
        rejected = [entry.get("text") or f"{entry['question']}\n{entry['answer']}" for entry in self.rejected]
        return rejected + [f"{row['question']}\n{row['answer']}" for row in self.kept]


def converted(content: bytes, data: DataConfig) -> Result | None:
    """Convert a table, and check what must hold for any; None where it was refused, with nothing written."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source, out = folder / "qa.csv", folder / "out"
        source.write_bytes(content)
        refusal = None
        try:
            report = convert([str(source)], data, 42, render, None, out)
        except InputError as error:
            refusal = error
        if refusal is not None:
            assert refusal.message
            assert refusal.hint
            assert list(folder.iterdir()) == [source]
            return None
        assert set(folder.iterdir()) == {source, out}
        return Result(out, report)


def _lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


# What tables are made of. The texts are in the forms of MedQuAD, so that each rule and each reason has its turn.

TOPICS = ["gout", "Sjgren syndrome", "lung cancer (small cell)", "Ménière disease", "Crohn's disease", "ASTHMA"]
QUESTION_FORMS = [
    "What is (are) {} ?",
    "What are the symptoms of {} ? ?",
    "What are the treatments for {}?",
    "What causes {} ?",
    "Is {} inherited ?",
    "  How to\tprevent {}",
    "{}",
]
HPO_BLOCK = (
    "The Human Phenotype Ontology provides the following list of signs and symptoms for it. "
    "Signs and Symptoms Approximate number of patients (when available) Seizures 50% Ataxia 7/10 Pain - "
    "The Human Phenotype Ontology (HPO) has collected information on how often a sign occurs. "
    "In these cases, the sign or symptom may be rare or common."
)
LONG = " ".join(f"word{number}" for number in range(30))
STARTS = ["", "Key Points\n", "Summary : ", "Doctor: "]
PIECES = [
    f"{LONG}.",
    "It includes    - pain    - fever    -  rash",
    "It doesnt spread.The doctor knows.",
    "The patientâ€™s cafÃ© is closed.",
    "Watch the video about this.",
    "(To enlarge the image, click on it.)",
    HPO_BLOCK,
    "one two\x0bthree\u2028four\u3000five",
    "<p>Rest &amp; drink</p><ul><li>p &lt; 0.05</li><li>a<b and c>d</li></ul>",
    "Look: ![x](data:image/png;base64,iVBORw0KGgo=)",
    "Rest.\\nDrink.\\n\\nSleep",
    "5 - 10 mg; see https://example.org",
    "a, b; c | d \"e\" 'f'",
    "x" * 20_000,
]
ENDS = ["", "\nNIH: National Eye Institute", "\r\n\r\n\r\n", "   "]
# A whole answer that makes its row useless.
USELESS = ["", " \u200b", "nan", "N/A", "How old are you?", "Topics", "www.example.org", "a\0b"]
ODD_CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", "?", "-", "NULL", "="]
)
CONFIGS = st.builds(
    lambda held_out, copies, **more: DataConfig(
        validation_fraction=held_out[0], test_fraction=held_out[1], max_copies_of_an_answer=copies, **more
    ),
    st.sampled_from([(0.0, 0.0), (0.05, 0.1), (0.0, 0.4), (0.4, 0.0)]),
    st.sampled_from([1, 2, None]),
    max_rows=st.sampled_from([None, None, 4]),
    paraphrases_per_question=st.sampled_from([0, 0, 2]),
)


@st.composite
def medical_pairs(draw: st.DrawFn, question_mark: str = "", answer_mark: str = "") -> Pair:
    """A question and an answer with what the cleaning rules look for; marks stand where no rule takes them away."""
    topic = draw(st.sampled_from(TOPICS))
    form = draw(st.sampled_from(QUESTION_FORMS))
    question = form.format(f"{topic} {question_mark}".strip())
    whole = "" if answer_mark else draw(st.sampled_from(["", "", "", "useless", "near copy"]))
    if whole:
        return question, draw(st.sampled_from(USELESS)) if whole == "useless" else f"{LONG} and {topic}."
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=3))
    pieces.insert(draw(st.integers(0, len(pieces))), f"{topic} is a disease {answer_mark}.")
    body = draw(st.sampled_from([" ", "\n", "\n\n    "])).join(pieces)
    # The form of the question again: an echo.
    start = draw(st.sampled_from([*STARTS, f"{form} "])).format(topic)
    return question, start + body + draw(st.sampled_from(ENDS))


def table_of(draw: st.DrawFn, rows: Sequence[Sequence[str]], codec: str, header: Sequence[str]) -> bytes:
    file = io.StringIO(newline="")
    # \r\n as the line end makes csv.writer quote every cell with a \r or a \n in it.
    delimiter = draw(st.sampled_from(",;\t|"))
    quoting: Any = csv.QUOTE_ALL if draw(st.booleans()) else csv.QUOTE_MINIMAL
    csv.writer(file, delimiter=delimiter, lineterminator="\r\n", quoting=quoting).writerows([header, *rows])
    return file.getvalue().encode(codec)


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[bytes, list[Pair]]:
    """The bytes of a table that csv.writer made, and its rows."""
    rows = draw(st.lists(medical_pairs() | st.tuples(ODD_CELLS, ODD_CELLS), min_size=1, max_size=16, unique=True))
    rows += draw(st.lists(st.sampled_from(rows), max_size=3))  # exact duplicates
    codec = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))
    return table_of(draw, rows, codec, ("question", "answer")), rows


@given(table=written_tables(), data=CONFIGS)
def check_written_table(table: tuple[bytes, list[Pair]], data: DataConfig, seen: Counter[str]) -> None:
    content, rows = table
    result = converted(content, data)
    if result is None:
        seen["refused"] += 1
        return
    assert result.report["rows"]["read"] == len(rows)
    rejected = {entry["row"]: (entry["question"], entry["answer"]) for entry in result.rejected}
    assert rejected == {number: rows[number - 1] for number in rejected}
    cleaned = [clean(*row, ENABLED) for number, row in enumerate(rows, start=1) if number not in rejected]
    assert Counter((row["question"], row["answer"]) for row in result.kept) == Counter(
        (row.question, row.answer) for row in cleaned
    )
    assert result.report["cleaning"] == {rule: sum(rule in row.changed for row in cleaned) for rule in ENABLED}
    seen.update(["converted", *result.report["rows"]["rejected"], *(rule for row in cleaned for rule in row.changed)])
    seen["held out"] += result.report["splits"]["test"] > 0
    seen["paraphrased"] += result.report["paraphrases"] > 0


def test_each_row_of_a_written_table_is_kept_as_cleaned_or_rejected_as_it_was() -> None:
    seen: Counter[str] = Counter()
    check_written_table(seen=seen)
    reasons = {"nul_byte", "empty_question", "empty_answer", "answer_is_question", "stub", "link_list"}
    reasons |= {"exact_duplicate", "over_copy_limit", "not_sampled", "near_duplicate_of_test"}
    # Else the check above would be about nothing.
    assert reasons | {"near_duplicate_of_validation", "held out", "paraphrased", "refused"} | set(RULES) <= set(seen)
    assert seen["converted"] > seen["refused"]


# Broken tables: between the rows and in them, bytes that break rows apart or join them.

JUNK = st.sampled_from(
    [
        b'"',
        b'""',
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b'","',
        b'"\n"',
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe2\x82",
    ]
) | st.binary(max_size=6)
MARK_BITS = 6


def mark_of(number: int) -> str:
    """A word for a row that differs from another row's only in case, so that equal rows still count as duplicates."""
    bits = f"{number:0{MARK_BITS}b}".replace("0", "k").replace("1", "K")
    return f"zq{bits}qz"


@st.composite
def broken_tables(draw: st.DrawFn) -> tuple[bytes, int]:
    """A table with a mark in each question and each answer, then broken; and the number of the marks."""
    count = draw(st.integers(1, 8))
    rows = [draw(medical_pairs(mark_of(2 * row), mark_of(2 * row + 1))) for row in range(count)]
    content = table_of(draw, rows, "utf-8", ("question", "answer"))
    header, line_end, body = content.partition(b"\r\n")
    breaks = [0, *(place for place, byte in enumerate(body) if byte in b' ,;|\t\n"?.'), len(body)]
    for place in sorted(draw(st.lists(st.sampled_from(breaks), max_size=6)), reverse=True):
        body = body[:place] + draw(JUNK) + body[place:]
    return header + line_end + body, 2 * count


# What is drawn depends on the modules that are loaded: a quote that is never closed, with a row
# behind it, is drawn in some runs only.
UNCLOSED = (
    "question,answer\r\nWhat is gout {}?,A disease of the joints {}.\r\nWhat is mumps {}?,A disease of glands {}.\r\n"
    'Is gout {} rare?,"It is not rare {}.\r\nWhat is flu {}?,An infection {}.\r\n'
)


@example(
    table=(UNCLOSED.format(*map(mark_of, range(8))).encode(), 8),
    data=DataConfig(validation_fraction=0.0, test_fraction=0.0),
)
@SLOW
@given(table=broken_tables(), data=CONFIGS)
def check_broken_table(table: tuple[bytes, int], data: DataConfig, seen: Counter[str]) -> None:
    content, marks = table
    if is_no_utf8(content):
        data = replace(data, encoding="latin-1")  # noise is in no encoding that could be told
    result = converted(content, data)
    if result is None:
        seen["refused"] += 1
        return
    texts = result.texts()
    assert [sum(text.count(mark_of(number)) for text in texts) for number in range(marks)] == [1] * marks
    seen.update(["converted", *result.report["rows"]["rejected"]])


def test_each_word_of_a_broken_table_is_in_one_row() -> None:
    seen: Counter[str] = Counter()
    check_broken_table(seen=seen)
    assert {"ragged_row", "unclosed_quote", "malformed_quotes", "nul_byte", "exact_duplicate"} <= set(seen)
    assert seen["converted"] > seen["refused"]


# Anything at all.

ANY_TEXTS = [*QUESTION_FORMS, *STARTS, *PIECES, *ENDS, *USELESS, *TOPICS, "sep=;\n", "[INST] a [/INST] b"]
ANY_PIECES = (
    JUNK
    | st.binary(max_size=12)
    | st.sampled_from([text.encode() for text in ANY_TEXTS])
    | st.sampled_from(
        [b"question,answer\n", b"What is flu?,An infection\n", b"\nIs it rare?;No|\n", "ö".encode("latin-1")]
    )
)
ANY_STARTS = st.sampled_from(
    [b"question,answer\nWhat is gout?,A disease\n"] * 4
    + [b"question,answer\n"] * 2
    + [b"question;answer;topic\r\n", b"text\n", b"answer\tquestion\n", b"q,a\n", b""]
)


@SLOW
@given(start=ANY_STARTS, pieces=st.lists(ANY_PIECES, max_size=25), data=CONFIGS)
def check_bytes(start: bytes, pieces: list[bytes], data: DataConfig, seen: Counter[str]) -> None:
    result = converted(start + b"".join(pieces), data)
    seen["refused" if result is None else "converted"] += 1


def test_any_bytes_are_converted_or_refused() -> None:
    seen: Counter[str] = Counter()
    check_bytes(seen=seen)
    assert min(seen["converted"], seen["refused"]) >= 8
