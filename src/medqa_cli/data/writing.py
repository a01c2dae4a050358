"""The second pass of ``medqa convert``: from the spool to the files of the splits and ``rejected.jsonl``, with counts.

Does not decide where a row goes.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from medqa_cli.data.filtering import NOT_CHOSEN, TOPIC_NAMED, Screened
from medqa_cli.data.normalize import RowKeys, key_of, normalize, unique_id
from medqa_cli.data.output_folder import REJECTED_NAME
from medqa_cli.data.splitting import SPLITS
from medqa_cli.data.spool import create, place_of, read_lines, write_line
from medqa_cli.data.token_lengths import TokenLengths
from medqa_cli.data.topics.paraphrases import paraphrase

SHOWN_GARBLED = 5  # rows
Render = Callable[[str, str], str]


@dataclass(frozen=True)
class Wording:
    """How texts are made: the prompt's rendering, and how many paraphrases a training question gets."""

    render: Render
    paraphrases_per_question: int
    seed: int


@dataclass
class Written:
    """What was written, counted; ``examples``: where the first row stands that a reason took.

    ``garbled``: kept rows with signs of a wrong decoding; ``garbled_rows``: where the first of them stand, with a part.
    """

    splits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    rejected: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    garbled: int = 0
    garbled_rows: list[str] = field(default_factory=list)
    paraphrases: int = 0


class _Writer:
    def __init__(self, files: dict[str, TextIO], screened: Screened, wording: Wording, lengths: TokenLengths | None):
        self.written = Written()
        self._files = files
        self._wording = wording
        self._lengths = lengths
        self._taken: Counter[str] = Counter()
        self._questions = {key.question for key in screened.keys} if wording.paraphrases_per_question else set()

    def reject(self, entry: dict[str, Any]) -> None:
        self.written.rejected[entry["reason"]] += 1
        self.written.examples.setdefault(entry["reason"], place_of(entry))
        write_line(self._files["rejected"], entry)

    def keep(self, entry: dict[str, Any], key: RowKeys, split: str) -> None:
        kept, row_id = entry["kept"], unique_id(key.pair, self._taken)
        self.written.splits[split] += 1
        self.written.changed.update(entry["changed"])
        self.written.languages[entry["language"]] += 1
        if entry["garbled"]:
            self.written.garbled += 1
            if len(self.written.garbled_rows) < SHOWN_GARBLED:
                self.written.garbled_rows.append(f"{place_of(entry[NOT_CHOSEN])} {entry['garbled']}")
        text = self._write(split, row_id, kept, "")
        if self._lengths is not None:
            self._lengths.add(kept["answer"], text)
        if split == "train" and self._wording.paraphrases_per_question:
            for number, question in enumerate(self._paraphrases(kept["question"]), start=1):
                self._write(split, f"{row_id}-p{number}", {**kept, "question": question}, row_id)
                self.written.paraphrases += 1

    def _paraphrases(self, question: str) -> Iterator[str]:
        for other in paraphrase(question, self._wording.paraphrases_per_question, self._wording.seed):
            key = key_of(normalize(other))
            if key not in self._questions:  # the data set asks it itself, perhaps with another answer
                self._questions.add(key)
                yield other

    def _write(self, split: str, row_id: str, kept: dict[str, str], paraphrase_of: str) -> str:
        text = self._wording.render(kept["question"], kept["answer"])
        row = {"id": row_id, **kept, "text": text}
        if self._wording.paraphrases_per_question:
            row["paraphrase_of"] = paraphrase_of  # in each row, so that all rows have the same keys
        write_line(self._files[split], row)
        return text


def write_rows(
    folder: Path,
    spool_path: Path,
    screened: Screened,
    places: Sequence[str],
    wording: Wording,
    lengths: TokenLengths | None,
) -> Written:
    """Write each spooled row to its split or to the rejected ones, in the order of the source.

    Args:
        folder: the folder to write to.
        spool_path: what ``screening.screen_rows`` wrote.
        screened: what it returned.
        places: for each row let through its split, or why it is rejected.
        wording: how texts are made.
        lengths: counts tokens of the rows, if anything does.

    Returns:
        the counts.
    """
    let_through = zip(screened.keys, places, strict=True)
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(create(folder / f"{name}.jsonl")) for name in SPLITS}
        files["rejected"] = stack.enter_context(create(folder / REJECTED_NAME))
        writer = _Writer(files, screened, wording, lengths)
        for entry in read_lines(spool_path):
            if "kept" not in entry:
                writer.reject(entry)
                continue
            key, place = next(let_through)
            if screened.by_question:
                entry["kept"]["topic"] = entry[TOPIC_NAMED]
            if place in SPLITS:
                writer.keep(entry, key, place)
            else:
                writer.reject({**entry[NOT_CHOSEN], "reason": place})
    return writer.written
