"""Reads one MedQuAD document: ``Document@source > Focus, QAPairs > QAPair > Question@qtype, Answer``.

Does not trust the file: entities, external references and document types are refused, not resolved. Does not open
files: ``bundles`` hands in their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medqa_cli.data.reading.columns import Columns
from medqa_cli.data.reading.rows import RawRow, UnreadRow

COLUMNS = Columns(("Question", "Answer", "Focus", "Document@source", "Question@qtype"), 0, 1, 2, 3, 4)


@dataclass(frozen=True)
class _Problem:
    """Why a document cannot be read: reason, line where known, and the detail for the user."""

    reason: str
    line: int | None
    detail: str


def read_document(content: bytes, file: str, default_source: str) -> Iterator[RawRow | UnreadRow]:
    """Yield the pairs of a document.

    ``Document@id`` is not used: it is not unique across the folders of MedQuAD.

    Args:
        content: the document.
        file: its name, for the rows.
        default_source: the source where ``Document@source`` is missing.

    Yields:
        one row for each ``QAPair``, its answer empty where the document has none; one unread row for a document that
        is unsafe (``unsafe_xml``), not well-formed (``malformed_xml``) or of another kind (``not_medquad_xml``).
    """
    try:
        yield from list(_rows(content, file, default_source))
    except RecursionError:
        yield UnreadRow(1, None, "malformed_xml", text="nested too deeply", file=file)


def _rows(content: bytes, file: str, default_source: str) -> Iterator[RawRow | UnreadRow]:
    root = _parse(content)
    # The root's name is not asked for: one document of MedQuAD calls itself DiseaseFile.
    if not isinstance(root, _Problem) and root.find(".//QAPairs") is None:
        root = _Problem("not_medquad_xml", None, f"expected <Document> with <QAPairs>, found <{root.tag}> without them")
    if isinstance(root, _Problem):
        yield UnreadRow(1, root.line, root.reason, text=root.detail, file=file)
        return
    topic = _text(root.findall("Focus"))
    source = (root.get("source") or "").strip() or default_source
    for row, pair in enumerate(root.iter("QAPair"), start=1):
        questions, answers = pair.findall("Question"), pair.findall("Answer")
        question, answer = _text(questions), _text(answers)
        if len(questions) > 1 or len(answers) > 1:
            yield UnreadRow(row, None, "several_answers", question, answer, file=file)
            continue
        kind = questions[0].get("qtype", "").strip() if questions else ""
        yield RawRow(row, None, question, answer, topic, source, file, kind)


def _parse(content: bytes) -> Any:
    """Return the root element or a problem."""
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, XMLParser

    parser = XMLParser(forbid_dtd=True)
    try:
        parser.feed(content)
        return parser.close()
    except DefusedXmlException as error:
        return _Problem("unsafe_xml", parser.parser.CurrentLineNumber, f"document type or entity refused: {error}")
    except ParseError as error:
        return _Problem("malformed_xml", error.position[0], str(error))
    except (ValueError, LookupError) as error:
        # An encoding that Python or expat does not know.
        return _Problem("malformed_xml", 1, str(error))


def _text(elements: list[Any]) -> str:
    return "\n".join("".join(element.itertext()) for element in elements)
