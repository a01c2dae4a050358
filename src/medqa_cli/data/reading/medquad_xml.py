"""Reads MedQuAD documents: ``Document@source > Focus, QAPairs > QAPair > Question@qtype, Answer``.

The files are not trusted: entities, external references and document types are refused, not resolved.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from medqa_cli.data.reading.archives import Container, read_member
from medqa_cli.data.reading.shapes import Columns, RawRow, Rows, UnreadRow
from medqa_cli.errors import InputError

COLUMNS = Columns(("Question", "Answer", "Focus", "Document@source", "Question@qtype"), 0, 1, 2, 3, 4)
LARGEST_DOCUMENT = 10_000_000  # bytes; MedQuAD's largest has 0.3 million
# What to do about a document that cannot be read, by the reason.
_REPAIRS = {
    "unsafe_xml": "take its <!DOCTYPE ...> out: medqa resolves no entities, since they can name other files",
    "malformed_xml": "it may be cut off: repair it or download it again",
    "not_medquad_xml": "medqa reads no XML but MedQuAD's; export it as 'CSV UTF-8'",
    "too_large": "split it into smaller documents",
}


def read_source(path: Path, member: str) -> Rows:
    """Read an XML document that is a source of its own.

    Raises:
        InputError: it cannot be read; in a folder or an archive, it would be an unread row among others.
    """
    size = path.stat().st_size
    if size > LARGEST_DOCUMENT:
        rows: Rows = iter([_too_large(member, size)])
    else:
        rows = read_document(path.read_bytes(), member, path.name)
    for row in rows:
        if isinstance(row, UnreadRow) and row.reason in _REPAIRS:
            location = f"{path}:{row.line}" if row.line else str(path)
            raise InputError(f"{location} cannot be read: {row.text}", _REPAIRS[row.reason])
        yield row


def read_members(container: Container, documents: Sequence[str], prefix: str, name: str) -> Rows:
    """Yield the rows of the documents of a folder or an archive.

    Args:
        container: the folder or archive.
        documents: its members that are read, in the order of their rows.
        prefix: what stands before a member's name in the ``file`` of its rows.
        name: the source of documents at the container's top that name none.
    """
    for member in documents:
        file = prefix + member
        if container.members[member] > LARGEST_DOCUMENT:
            yield _too_large(file, container.members[member])
            continue
        folder = PurePosixPath(member).parent.name or name
        yield from read_document(read_member(container, member), file, folder)


def _too_large(file: str, size: int) -> UnreadRow:
    return UnreadRow(1, None, "too_large", text=f"{size:,} bytes; at most {LARGEST_DOCUMENT:,} are read", file=file)


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
        yield from _rows(content, file, default_source)
    except RecursionError:
        yield UnreadRow(1, None, "malformed_xml", text="nested too deeply", file=file)


def _rows(content: bytes, file: str, default_source: str) -> list[RawRow | UnreadRow]:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, XMLParser

    parser = XMLParser(forbid_dtd=True)
    try:
        parser.feed(content)
        root = parser.close()
    except DefusedXmlException as error:
        detail = f"document type or entity refused: {error}"
        return [UnreadRow(1, parser.parser.CurrentLineNumber, "unsafe_xml", text=detail, file=file)]
    except ParseError as error:
        return [UnreadRow(1, error.position[0], "malformed_xml", text=str(error), file=file)]
    except (ValueError, LookupError) as error:
        # An encoding that Python or expat does not know.
        return [UnreadRow(1, 1, "malformed_xml", text=str(error), file=file)]
    # The root's name is not asked for: one document of MedQuAD calls itself DiseaseFile.
    if root.find(".//QAPairs") is None:
        detail = f"expected <Document> with <QAPairs>, found <{root.tag}> without them"
        return [UnreadRow(1, None, "not_medquad_xml", text=detail, file=file)]
    rows: list[RawRow | UnreadRow] = []
    topic = _text(root.findall("Focus"))
    source = (root.get("source") or "").strip() or default_source
    for row, pair in enumerate(root.iter("QAPair"), start=1):
        questions, answers = pair.findall("Question"), pair.findall("Answer")
        question, answer = _text(questions), _text(answers)
        if len(questions) > 1 or len(answers) > 1:
            rows.append(UnreadRow(row, None, "several_answers", question, answer, file=file))
            continue
        kind = questions[0].get("qtype", "").strip() if questions else ""
        rows.append(RawRow(row, None, question, answer, topic, source, file, kind))
    return rows


def _text(elements: list[Any]) -> str:
    return "\n".join("".join(element.itertext()) for element in elements)
