"""The first pass of ``medqa convert``: clean and judge each row, spool all of them, keep the keys of the good ones.

Does not split and does not look for near copies; it only collects what both need.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning.mojibake import garbled_words, mojibake
from medqa_cli.data.cleaning.non_answers import unhelpful
from medqa_cli.data.cleaning.reasons import enabled_reasons
from medqa_cli.data.cleaning.rules import clean
from medqa_cli.data.languages import told_language
from medqa_cli.data.near_duplicates import AnswerSketches
from medqa_cli.data.normalize import RowKeys, Screen, normalize, row_keys, unusable
from medqa_cli.data.reading.rows import RawRow, SourceRows, UnreadRow
from medqa_cli.data.spool import create, place_of, rejected, write_line
from medqa_cli.data.topics.topic_counts import ColumnOfOneTopic
from medqa_cli.data.topics.topics import topic_names, topic_of
from medqa_cli.data.wording import counted
from medqa_cli.errors import InputError

TOPIC_NAMED = "named"  # key of a spooled row: the topic that its question names, where the column may tell nothing
NOT_CHOSEN = "raw"  # key of a spooled row that was let through: the line of rejected.jsonl, should it come to that
ROWS_PER_UPDATE = 1000
ROWS_THAT_TELL, FEWEST_KEPT = 500_000, 50  # with fewer kept of so many rows, the rest is not read
# What to do where no row can be used, by the reason.
_REPAIRS = {
    "several_turns": "medqa learns a question and its answer: write those turns that stand alone as rows of their own",
    "not_rendered_form": "name the role that asks 'user' and the one that answers 'assistant', the question first",
    "several_answers": "keep the answer that is to be learned, or write each as a row of its own",
    "not_text": "write one text into each cell",
    "unresolved_option": "write the text of the right option into the answer's column",
    "impossible_question": "give questions that have an answer",
}


@dataclass
class Screened:
    """What is known of the rows after the first pass: the keys of those let through, and the counts.

    ``column``: whether the topic column tells rows apart; ``by_question``: it does not, so the questions' topics count.
    ``unreadable``: those rejected that could not be used whatever the config says, by their reasons.
    """

    keys: list[RowKeys] = field(default_factory=list)
    column: ColumnOfOneTopic = field(default_factory=ColumnOfOneTopic)
    by_question: bool = False
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    first_rejected: str = ""
    sha256: str = ""


def screen_rows(
    opened: SourceRows, data: DataConfig, rules: Sequence[str], spool_path: Path, sketches: AnswerSketches
) -> Screened:
    """Run through a source.

    Args:
        opened: the source.
        data: the section of the config.
        rules: names of the cleaning rules to apply.
        spool_path: the file to write all rows to, for the second pass.
        sketches: gets the answer of each row let through, in the order of ``Screened.keys``.

    Returns:
        the keys of the rows let through, the counts, and a digest of all that was read.
    """
    screened = Screened()
    reasons = enabled_reasons(data.reasons)
    screen = Screen(data.max_copies_of_an_answer, reasons)
    digest = hashlib.sha256()
    with create(spool_path) as spool, console.status("reading and cleaning ...") as show_status:
        for row in opened.rows:
            screened.read += 1
            digest.update("\0".join(_texts(row)).encode("utf-8", "surrogatepass"))
            entry = _judged(row, screen, rules, reasons, screened, sketches)
            if reason := entry.get("reason"):
                screened.rejected[reason] += 1
                screened.unreadable[reason] += isinstance(row, UnreadRow) and row.otherwise is None
                detail = f": {entry['detail']}" if "detail" in entry else ""
                screened.first_rejected = screened.first_rejected or f"{place_of(entry)}: {reason}{detail}"
            write_line(spool, entry)
            if screened.read == ROWS_THAT_TELL and len(screened.keys) < FEWEST_KEPT:
                raise InputError(
                    f"of the first {screened.read:,} rows only {len(screened.keys)} can be used: "
                    f"{counted(screened.rejected)} (the first: {screened.first_rejected})",
                    "check the file, or whether data.question_column and data.answer_column name the right columns",
                )
            if screened.read % ROWS_PER_UPDATE == 0:
                show_status(f"reading and cleaning: {screened.read:,} rows ...")
    screened.sha256 = digest.hexdigest()
    return screened


def check_something_kept(screened: Screened, name: str) -> None:
    """Check that there is something to split.

    Raises:
        InputError: no row was let through.
    """
    if not screened.keys:
        raise InputError(
            f"{name}: none of its {screened.read:,} rows can be used: {counted(screened.rejected)} "
            f"(the first: {screened.first_rejected})",
            _advice(screened.rejected.most_common(1)[0][0]),
        )


def _advice(reason: str) -> str:
    general = "check the file, or whether data.question_column and data.answer_column name the right columns"
    return f"{_REPAIRS[reason]}; or {general}" if reason in _REPAIRS else general


def _texts(row: RawRow | UnreadRow) -> tuple[str, ...]:
    last = row.text if isinstance(row, UnreadRow) else row.topic
    return row.question, row.answer, last, ""


def _judged(
    row: RawRow | UnreadRow,
    screen: Screen,
    rules: Sequence[str],
    reasons: Collection[str],
    screened: Screened,
    sketches: AnswerSketches,
) -> dict[str, Any]:
    """Return what is spooled of a row: it as rejected (with a ``reason``), or its raw and its cleaned texts."""
    if isinstance(row, UnreadRow):
        if row.otherwise is None or row.reason in reasons:
            return rejected(row, row.reason)
        row = row.otherwise
    if reason := unusable(row.question, row.answer, row.topic, row.source):
        return rejected(row, reason)
    cleaned = clean(row.question, row.answer, rules)
    # The question as it was read comes first: a repaired name would no longer be that of a topic column.
    repaired = mojibake if "mojibake" in rules else str
    given = topic_of("", repaired(row.topic))

    def named() -> str:
        return topic_of(repaired(row.question), "") or topic_of(cleaned.question, "")

    topic = given or named()
    reason = unusable(cleaned.question, cleaned.answer) or unhelpful(cleaned.question, cleaned.answer, reasons)
    if reason:
        return rejected(row, reason)
    folded_answer = normalize(cleaned.answer)
    found = row_keys(cleaned.question, cleaned.answer, folded_answer, topic_names(topic), row.source)
    if refusal := screen.refusal(found):
        return rejected(row, refusal)
    screened.keys.append(found)
    sketches.add(folded_answer, found.answer)
    by_question = screened.column.watch(found.topics if given else (), named)
    entry = {
        NOT_CHOSEN: rejected(row, ""),
        "changed": cleaned.changed,
        "language": told_language(cleaned.answer, cleaned.question),
        "garbled": garbled_words(cleaned.question) or garbled_words(cleaned.answer),
        "kept": {"question": cleaned.question, "answer": cleaned.answer, "topic": topic, "source": row.source},
    }
    return entry if by_question is None else {**entry, TOPIC_NAMED: by_question}
