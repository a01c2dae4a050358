"""Cuts a section of a document into passages at the ends of sentences."""

from __future__ import annotations

from collections.abc import Iterator

from medqa_cli.data.documents.sections import Section
from medqa_cli.data.minhash import words_of
from medqa_cli.prompt.sentence_ends import sentence_ends, word_ends

# Some 220 tokens: three passages, a question and its answer fit into a window of 1024. Longer ones are about several
# things and rank worse; much shorter ones tear apart what belongs together.
MOST_WORDS = 160
# A shorter end of a section stays with what is before it.
FEWEST_WORDS = 40
# In this many characters there are taken to be as many words, whatever their spaces: no passage is endless.
_MOST_CHARACTERS = 12 * MOST_WORDS


def cut(section: Section) -> Iterator[tuple[str, str]]:
    """Yield the text and the place of each passage."""
    text = section.text
    for start, end in _spans(text):
        lead = len(text[start:end]) - len(text[start:end].lstrip())
        yield text[start:end].strip(), section.place_at(start + lead)


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where passages begin and end: at the end of a paragraph where one is in the second half."""
    spans: list[tuple[int, int]] = []
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
    return [*spans, (start, end)] if end > start else spans


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
        while (room := _room(sentence[at : min(stop, at + _MOST_CHARACTERS)])) < stop - at:
            at += room
            yield start + at
        kept = stop


def _room(text: str) -> int:
    """Return how many characters of a text without spaces fit into a passage."""
    return len(text) * MOST_WORDS // max(MOST_WORDS, _size(text))


def _size(text: str) -> int:
    """Return the number of words; in scripts without spaces each sign is one."""
    return max(len(words_of(text)), len(text) * MOST_WORDS // _MOST_CHARACTERS)
