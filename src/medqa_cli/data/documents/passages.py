"""Reads the documents into passages, cut at the ends of sentences: the door of ``medqa convert``."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning import mojibake, rules
from medqa_cli.data.cleaning.reasons import unusable
from medqa_cli.data.dataset import iterate_split
from medqa_cli.data.documents import finding, html_page, pdf, sections
from medqa_cli.data.documents.text import decoded_page, decoded_text, read_text
from medqa_cli.data.minhash import SHORT_RUNS, num_words, shingle_sets, words_of
from medqa_cli.data.normalize import is_empty, key_of, normalize
from medqa_cli.data.reading.archives import Scratch
from medqa_cli.data.reading.shapes import ColumnNames, PairTable, TableFile, UnreadRow
from medqa_cli.data.reading.tables import open_table
from medqa_cli.data.retrieval import Passage
from medqa_cli.data.sketches import MOST_SIGNS_OF_AN_OPTION, MOST_WORDS_OF_AN_OPTION
from medqa_cli.data.writing import unique_id
from medqa_cli.errors import InputError
from medqa_cli.files import reading_from, sha256_of_file
from medqa_cli.prompt.sentence_ends import sentence_ends, word_ends
from medqa_cli.spelling import counted

# Some 220 tokens: three passages, a question and its answer fit into a window of 1024. Longer ones are about several
# things and rank worse; much shorter ones tear apart what belongs together.
MOST_WORDS = 160
# A shorter end of a section stays with what is before it.
FEWEST_WORDS = 40
# In this many characters there are taken to be as many words, whatever their spaces: no passage is endless.
_MOST_CHARACTERS = 12 * MOST_WORDS
# The cleaning rules that are for any text, besides mojibake and white space; those for answers are for tables alone.
_OF_A_LINE = ("embedded_pictures", "html")
_SHOWN_REASONS = 3
_ROWS_AT_A_TIME = 1024


def cut(section: sections.Section) -> Iterator[tuple[str, str]]:
    """Yield the text and the place of each passage; it ends with a paragraph where one ends in its second half."""
    text, spans = section.text, list[tuple[int, int]]()
    start = end = size = 0
    paragraph, size_of_paragraphs = 0, 0
    for stop in _ends(text):
        more = _size(text[end:stop])
        while size and size + more > MOST_WORDS:
            is_late = 2 * size_of_paragraphs >= MOST_WORDS
            cut_at, cut_size = (paragraph, size_of_paragraphs) if is_late else (end, size)
            spans.append((start, cut_at))
            start, size, size_of_paragraphs = cut_at, size - cut_size, 0
        end, size = stop, size + more
        if text.startswith("\n\n", end):
            paragraph, size_of_paragraphs = end, size
    if spans and size < FEWEST_WORDS:
        start, _ = spans.pop()
    if end > start:
        spans.append((start, end))
    for start, end in spans:
        lead = len(text[start:end]) - len(text[start:end].lstrip())
        yield text[start:end].strip(), section.place_at(start + lead)


def _ends(text: str) -> Iterator[int]:
    """Yield where sentences end, and between them where a sentence is too long for a passage."""
    start = 0
    for end in sentence_ends(text):
        if _size(text[start:end]) > MOST_WORDS:
            yield from _ends_within(text, start, end)
        yield end
        start = end


def _ends_within(text: str, start: int, end: int) -> Iterator[int]:
    sentence = text[start:end]
    at = kept = 0
    for stop in [*word_ends(sentence), len(sentence)]:
        if kept > at and _size(sentence[at:stop]) > MOST_WORDS:
            at = kept
            yield start + at
        while at < stop:
            part = sentence[at : min(stop, at + _MOST_CHARACTERS)]
            # So many characters of a text without spaces fit into a passage.
            room = len(part) * MOST_WORDS // max(MOST_WORDS, _size(part))
            if room >= stop - at:
                break
            at += room
            yield start + at
        kept = stop


def _size(text: str) -> int:
    """Return the number of words; in scripts without spaces each sign is one."""
    return max(len(words_of(text)), len(text) * MOST_WORDS // _MOST_CHARACTERS)


@dataclass
class _Contents:
    """One document: a passage has title, text, place and topic."""

    title: str
    passages: list[tuple[str, str, str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Documents:
    """What was read.

    ``texts``: sections and answers whole, before they were cut; ``pairs``: questions and answers of tables; ``report``:
    what ``report.json`` says of documents, still without what held-out rows share with them.
    """

    passages: list[Passage] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def count_held_out(self, folder: Path, threshold: float) -> dict[str, int]:
        """Return for validation and test how many rows of a data folder have their answers in the documents.

        Whoever may look there answers such questions from an open book. ``threshold``: share of an answer's runs of
        five words from which on it stands in the documents.
        """
        known_runs = np.unique(np.concatenate(list(shingle_sets(map(normalize, self.texts)))))
        known_pairs = {key_of(normalize(question), normalize(answer)) for question, answer in self.pairs}

        def is_held(question: str, answer: str, runs: NDArray[np.uint64]) -> bool:
            words, are_signs = num_words(answer)
            if words <= (MOST_SIGNS_OF_AN_OPTION if are_signs else MOST_WORDS_OF_AN_OPTION):
                # Yes, an option: it says little without its question.
                return key_of(question, answer) in known_pairs
            at = np.searchsorted(known_runs, runs)
            at[at == len(known_runs)] = 0
            share = float(np.count_nonzero(known_runs[at] == runs)) / len(runs)
            # In a short answer another word is another answer.
            return share >= (1.0 if len(runs) < SHORT_RUNS else threshold)

        counts = dict.fromkeys(("validation", "test"), 0)
        for split in counts:
            rows = ((normalize(row.question), normalize(row.answer)) for row in iterate_split(folder, split))
            while some := list(itertools.islice(rows, _ROWS_AT_A_TIME)):
                sets = shingle_sets(answer for _, answer in some)
                counts[split] += sum(is_held(*asked, runs) for asked, runs in zip(some, sets, strict=True))
        return counts


def read_documents(listing: finding.DocumentListing, data: DataConfig, wanted: ColumnNames) -> Documents:
    """Read the documents.

    One that cannot be read is left out with a warning where it is part of a folder.

    Args:
        listing: what ``finding.find_documents`` returned.
        data: the section of the config.
        wanted: the columns and the encoding that the config names, and its caps.

    Raises:
        InputError: a document that is named cannot be read or holds no text, or none of them can be used; there are
            PDF files, and what reads them is not installed.
    """
    if any(finding.document_kind(file.name) == "pdf" for file in listing.files):
        pdf.check_installed()
    documents, taken = Documents(), Counter[str]()
    files: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    with console.status("reading documents ...") as tell:
        for file in listing.files:
            tell(f"reading {file.name} ...")
            try:
                contents = _contents(file, data, wanted)
            except InputError as error:
                if file.is_named:
                    raise
                console.warn(f"left out of the documents: {error.message} ({error.hint})")
                skipped.append({"path": file.name, "reason": error.message})
                continue
            for warning in contents.warnings:
                console.warn(warning)
            for title, text, location, topic in contents.passages:
                passage_id = f"doc-{unique_id(key_of(file.name, location, text), taken)}"
                documents.passages.append(Passage(passage_id, "document", title, text, topic, file.name, location))
            documents.texts += contents.texts
            documents.pairs += contents.pairs
            sha256, count = sha256_of_file(file.path), len(contents.passages)
            files.append({"path": file.name, "sha256": sha256, "title": contents.title, "passages": count})
    if not files:
        reasons = "; ".join(entry["reason"] for entry in skipped[:_SHOWN_REASONS])
        raise InputError(f"none of {len(skipped):,} documents can be used: {reasons}", "see docs/data.md, Documents")
    if listing.others:
        console.warn(f"not read as documents: {counted(listing.others)}; save as .pdf, .html or .txt what should be")
    others = dict(sorted(listing.others.items()))
    documents.report = {"files": files, "passages": len(documents.passages), "skipped": skipped, "others": others}
    return documents


def _contents(file: finding.DocumentFile, data: DataConfig, wanted: ColumnNames) -> _Contents:
    """Read one document.

    Raises:
        InputError: it cannot be read, or holds no text.
    """
    kind = finding.document_kind(file.name)
    with reading_from(file.shown):
        if kind == "table":
            contents = _table(file, data, wanted)
        else:
            document = _document(kind, file, data, wanted)
            contents = _Contents(document.title, warnings=list(document.warnings))
            for section in document.sections:
                title = ": ".join(dict.fromkeys([document.title, *section.headings]))
                contents.passages += [(title, text, location, "") for text, location in cut(section)]
                contents.texts.append(section.text)
    if not contents.passages:
        rows = "no row with a question and an answer" if kind == "table" else "no text"
        raise InputError(f"{file.shown} holds {rows}", "take it out of data.documents, or look at what is in it")
    return contents


def _document(kind: str, file: finding.DocumentFile, data: DataConfig, wanted: ColumnNames) -> sections.Document:
    enabled = rules.enabled_rules(data.cleaning)
    path, shown = file.path, file.shown

    def whole(text: str) -> str:
        return mojibake.mojibake(text) if "mojibake" in enabled else text

    name = Path(file.name).stem
    if kind == "pdf":
        title, parts, warnings = pdf.read_pdf(path, shown, wanted.caps)
        return sections.document_of([part._replace(text=whole(part.text)) for part in parts], title, name, warnings)
    if kind == "page":
        page, doubts = decoded_page(path, shown, wanted.encoding)
        title, parts, warnings = html_page.read_page(whole(page), shown, wanted.caps)
        return sections.document_of(parts, title, name, (*doubts, *warnings))
    text, doubts = decoded_text(path, shown, wanted.encoding)
    is_markdown = path.suffix.lower() != ".txt"
    of_a_line = [rule for rule in _OF_A_LINE if rule in enabled and (is_markdown or rule != "html")]
    title, parts = read_text(whole(text), is_markdown, lambda line: rules.clean("", line, of_a_line).answer)
    return sections.document_of(parts, title, name, doubts)


def _table(file: finding.DocumentFile, data: DataConfig, wanted: ColumnNames) -> _Contents:
    enabled = rules.enabled_rules(data.cleaning)
    contents = _Contents(Path(file.name).stem)
    scratch = Scratch()
    num_rows = 0
    try:
        table = _opened(TableFile(file.path, file.shown), wanted, scratch)
        contents.warnings += table.warnings
        for row in table.rows:
            num_rows += 1
            if isinstance(row, UnreadRow) or unusable(row.question, row.answer, row.topic):
                continue
            question, answer, _ = rules.clean(row.question, row.answer, enabled)
            if is_empty(question) or is_empty(answer):
                continue
            contents.passages.append((question, answer, f"row {row.row}", rules.one_line(row.topic)))
            contents.texts.append(answer)
            contents.pairs.append((question, answer))
    finally:
        scratch.close()
    if len(contents.passages) < num_rows:
        unused = num_rows - len(contents.passages)
        contents.warnings.append(f"{file.shown}: {unused:,} of {num_rows:,} rows hold no question and answer")
    return contents


def _opened(file: TableFile, wanted: ColumnNames, scratch: Scratch) -> PairTable:
    """Open a table: with the columns that the config names for the sources, else with those found by their names."""
    first: InputError | None = None
    # An encoding that is named for the sources is only tried where a file's bytes do not tell its own.
    for names in dict.fromkeys([replace(wanted, encoding=None), wanted, ColumnNames(caps=wanted.caps)]):
        try:
            return open_table(file, names, scratch)
        except InputError as error:
            first = first or error
    assert first is not None
    raise first
