"""Folders and archives: MedQuAD XML and tables, their order, unsafe documents, bombs, and what they refuse."""

import csv
import errno
import gzip
import hashlib
import io
import os
import re
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import SHARED_DATA
from medqa_cli.data.reading import medquad_xml
from medqa_cli.data.reading.shapes import Caps, ColumnNames, RawRow, SourceRows, UnreadRow
from medqa_cli.data.reading.sources import check_sources, open_sources
from medqa_cli.errors import InputError

MEDQUAD = SHARED_DATA / "medquad"
DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="0000001" source="{source}" url="http://x"><Focus>{topic}</Focus>
<QAPairs>
<QAPair pid="1"><Question qid="1-1" qtype="symptoms">{topic}?</Question><Answer>About {topic}.</Answer></QAPair>
<QAPair pid="2"><Question qid="1-2" qtype="causes">Why {topic}?</Question><Answer/></QAPair></QAPairs></Document>"""
BILLION_LAUGHS = (
    '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<Document><QAPairs><QAPair><Question>&b;</Question><Answer>&b;</Answer></QAPair></QAPairs></Document>"
)
EXTERNAL = (
    '<?xml version="1.0"?>\n<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<Document><QAPairs><QAPair><Question>q</Question><Answer>&x;</Answer></QAPair></QAPairs></Document>"
)

Files = Mapping[str, str | bytes]
Make = Callable[[Path, Files], Path]


def document(topic: str, source: str = "CDC") -> str:
    return DOCUMENT.format(topic=topic, source=source)


def as_bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def make_folder(parent: Path, files: Files) -> Path:
    for name, content in files.items():
        path = parent / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return parent / "bundle"


def make_zip(parent: Path, files: Files) -> Path:
    path = parent / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, as_bytes(content))
    return path


def make_tar(parent: Path, files: Files, name: str = "bundle.tar", mode: str = "w") -> Path:
    path = parent / name
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member, content in files.items():
            info = tarfile.TarInfo(f"./{member}")
            info.size = len(as_bytes(content))
            archive.addfile(info, io.BytesIO(as_bytes(content)))
    return path


def make_tgz(parent: Path, files: Files) -> Path:
    return make_tar(parent, files, "bundle.tar.gz", "w:gz")


MAKERS = pytest.mark.parametrize("make", [make_folder, make_zip, make_tar, make_tgz])


def read(path: Path, **columns: Any) -> SourceRows:
    return open_sources([str(path)], ColumnNames(**columns))


def unread(opened: SourceRows) -> list[tuple[str, int | None, str]]:
    return [(row.file, row.line, row.reason) for row in opened.rows if isinstance(row, UnreadRow)]


@MAKERS
def test_documents_in_the_order_of_their_names(tmp_path: Path, make: Make) -> None:
    # The archives hold them in this order, which is not the sorted one; `B` sorts before `a` in bytes.
    files = {
        "b/1.xml": document("Gout"),
        "a/10.xml": document("Flu", ""),
        "a/2.XML": document("Asthma"),
        "B.xml": "<d/>",
    }
    opened = read(make(tmp_path, files))
    assert opened.description == "MedQuAD XML, 4 documents"
    assert opened.columns.describe() == (
        "question 'Question', answer 'Answer', topic 'Focus', source 'Document@source', kind 'Question@qtype'"
    )
    rows = list(opened.rows)
    assert [(row.file, row.row) for row in rows] == [
        ("B.xml", 1),
        ("a/10.xml", 1),
        ("a/10.xml", 2),
        ("a/2.XML", 1),
        ("a/2.XML", 2),
        ("b/1.xml", 1),
        ("b/1.xml", 2),
    ]
    # Without Document@source, the folder's name stands for it.
    assert rows[1] == RawRow(1, None, "Flu?", "About Flu.", "Flu", "a", "a/10.xml", "symptoms")
    assert rows[6] == RawRow(2, None, "Why Gout?", "", "Gout", "CDC", "b/1.xml", "causes")


def test_folder_and_archives_give_the_same_rows(tmp_path: Path) -> None:
    files = {f"{i % 3}/{i}.xml": document(f"T{i}") for i in (5, 3, 11, 7)}
    rows = [list(read(make(tmp_path, files)).rows) for make in (make_folder, make_zip, make_tar, make_tgz)]
    assert len(rows[0]) == 8
    assert rows[1:] == rows[:1] * 3


def test_the_digest_of_a_folder_covers_names_and_contents_of_what_is_used(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"b.xml": document("Gout"), "a/1.xml": document("Flu"), "readme.txt": "x"})

    def digest() -> str | None:
        return read(folder).digests[str(folder)]

    expected = hashlib.sha256()
    for name in ("a/1.xml", "b.xml"):
        expected.update(f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode())
    assert digest() == expected.hexdigest()
    (folder / "readme.txt").write_text("y")
    assert digest() == expected.hexdigest()
    (folder / "b.xml").rename(folder / "c.xml")
    assert digest() != expected.hexdigest()


def test_each_unusable_document_is_one_unread_row(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "bomb.xml": BILLION_LAUGHS,
        "cut.xml": document("Gout")[:-30],
        "deep.xml": "<Document><QAPairs>" + "<a>" * 50_000 + "</a>" * 50_000 + "</QAPairs></Document>",
        "empty.xml": "",
        "encoding.xml": '<?xml version="1.0" encoding="klingon"?><Document/>',
        "external.xml": EXTERNAL,
        "good.xml": document("Flu"),
        "latin.xml": document("Flu").replace("Flu", "Ménière").encode("latin-1"),
        "other.xml": "<html><body/></html>",
        "twice.xml": "<Document><QAPairs><QAPair><Question>q</Question><Answer>a</Answer><Answer>b</Answer></QAPair>"
        "</QAPairs></Document>",
    }
    rows = list(read(make_zip(tmp_path, files)).rows)
    problems = [row for row in rows if isinstance(row, UnreadRow)]
    assert [(row.file, row.line, row.reason) for row in problems] == [
        ("bomb.xml", 1, "unsafe_xml"),
        ("cut.xml", 5, "malformed_xml"),
        ("deep.xml", None, "malformed_xml"),
        ("empty.xml", 1, "malformed_xml"),
        ("encoding.xml", 1, "malformed_xml"),
        ("external.xml", 2, "unsafe_xml"),
        ("latin.xml", 2, "malformed_xml"),
        ("other.xml", None, "not_medquad_xml"),
        ("twice.xml", None, "several_answers"),
    ]
    assert problems[-2].text == "expected <Document> with <QAPairs>, found <html> without them"
    assert (problems[-1].question, problems[-1].answer) == ("q", "a\nb")
    assert [row.file for row in rows if isinstance(row, RawRow)] == ["good.xml", "good.xml"]


def test_a_document_in_utf16_and_one_file(tmp_path: Path) -> None:
    path = tmp_path / "one.xml"
    path.write_bytes(document("Ménière").replace("UTF-8", "UTF-16").encode("utf-16"))
    opened = read(path)
    assert opened.description == "MedQuAD XML, one document"
    assert [(row.file, row.question) for row in opened.rows] == [("", "Ménière?"), ("", "Why Ménière?")]
    assert opened.digests == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}


@MAKERS
def test_a_document_that_is_too_large_is_not_read(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medquad_xml, "LARGEST_DOCUMENT", 600)
    files = {"huge.xml": document("Gout") + " " * 1000, "small.xml": document("Flu")}
    rows = list(read(make(tmp_path, files)).rows)
    assert isinstance(rows[0], UnreadRow)
    assert (rows[0].reason, rows[0].file) == ("too_large", "huge.xml")
    assert [row.file for row in rows[1:]] == ["small.xml", "small.xml"]


def test_a_document_that_is_too_large_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medquad_xml, "LARGEST_DOCUMENT", 600)
    path = make_folder(tmp_path, {"huge.xml": document("Gout") + " " * 1000}) / "huge.xml"
    with pytest.raises(InputError, match=r"huge\.xml.* cannot be read: [\d,]+ bytes; at most 600 are read"):
        read(path)


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    path = make_folder(tmp_path, {"a.xml": document("Gout")})
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"bundle.*: Permission denied"):
        read(path)


def test_links_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    path = make_tar(tmp_path, {"a.xml": document("Flu")})
    with tarfile.open(path, "a") as archive:
        for name, kind in {
            "link.xml": tarfile.SYMTYPE,
            "hard.xml": tarfile.LNKTYPE,
            "dev.xml": tarfile.CHRTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert {row.file for row in read(path).rows} == {"a.xml"}


def test_a_folder_that_links_to_itself(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a/1.xml": document("Flu")})
    (folder / "a" / "again").symlink_to(folder)
    (folder / "a" / "circle.xml").symlink_to(folder / "a" / "circle.xml")
    assert [row.file for row in read(folder).rows] == ["a/1.xml", "a/1.xml"]


@MAKERS
def test_tables_each_with_its_own_format(tmp_path: Path, make: Make) -> None:
    files: dict[str, str | bytes] = {
        "b.jsonl": '{"question": "q3", "answer": "a3"}\n',
        "a/one.csv": "question;answer\nq1;a1\nq2\n",
        "c.csv.gz": gzip.compress(b"prompt\tresponse\nq4\ta4\n"),
        "readme.txt": "Some words",
        "LICENSE.csv": "no,table",
        ".hidden/x.csv": "x\n",
        "__MACOSX/a/._one.csv": b"\0\5\x16\7",
        "picture.png": b"\x89PNG",
        "empty.csv": "",
        "dataset_infos.json": "{}",
    }
    opened = read(make(tmp_path, files))
    assert [(row.file, row.row, row.question) for row in opened.rows] == [
        ("a/one.csv", 1, "q1"),
        ("a/one.csv", 2, "q2"),
        ("b.jsonl", 1, "q3"),
        ("c.csv.gz", 1, "q4"),
    ]
    assert opened.description.split("; ") == [
        "CSV, UTF-8, delimiter ';'",
        "JSON Lines, UTF-8",
        "TSV, UTF-8, delimiter tab, unpacked with gzip (columns: question 'prompt', answer 'response')",
    ]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_the_name_of_a_member_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """What stands before the known suffix of a member may be of any length, and may hold anything."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    names = ["../up.csv", "/root.csv", f"a.{'x' * 300}.csv", "b.\x1b]0;t\x07 c.csv", "C:\\d.csv"]
    opened = read(make(tmp_path, {name: f"question,answer\nq{n},a{n}\n" for n, name in enumerate(names)}))
    copies = [path for path in scratch.rglob("*") if path.is_file()]
    assert len(copies) == len(names)
    assert all(re.fullmatch(r"\d+\.csv", path.name) for path in copies)
    assert sorted(row.question for row in opened.rows if isinstance(row, RawRow)) == [f"q{n}" for n in range(5)]
    assert not (tmp_path / "up.csv").exists()


def test_private_copies_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    good = make_zip(tmp_path, {"../../evil.csv": "question,answer\nq1,a1\nq2,a2\n"})
    opened = read(good)
    assert len(list(scratch.rglob("*.csv"))) == 1
    assert [row.file for row in opened.rows] == ["../../evil.csv"] * 2
    assert list(scratch.iterdir()) == []
    assert not list(tmp_path.parent.glob("evil.csv"))

    half = iter(read(good).rows)
    next(half)
    del half
    assert list(scratch.iterdir()) == []

    bad = make_tgz(tmp_path, {"a.csv": "question,answer\nq1,a1\n", "b.csv": "title\nx\n"})
    with pytest.raises(InputError, match=r"bundle\.tar\.gz/b\.csv: no question column found"):
        read(bad)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no files"),
        ({"readme.txt": "x", "a.png": "x", "b.png": "x"}, "only 2 .png, 1 .txt"),
        ({"a.xml": document("Flu"), "b.csv": "question,answer\nq,a\n"}, "1 XML documents and 1 tables ('b.csv')"),
        ({"report.json": "{}", "train.jsonl": "", "test.jsonl": ""}, "is a data set that was converted before"),
    ],
)
@pytest.mark.parametrize("make", [make_folder, make_zip, make_tgz])
def test_containers_that_cannot_be_used(tmp_path: Path, make: Make, files: Files, said: str) -> None:
    (tmp_path / "bundle").mkdir()
    path = make(tmp_path, files)
    with pytest.raises(InputError) as caught:
        read(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint
    if path.is_dir():
        with pytest.raises(InputError):
            check_sources([str(path)])


@pytest.mark.parametrize("make", [make_zip, make_tar, make_tgz])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_damaged_archives_are_refused_by_name_or_read_with_their_loss_told(
    tmp_path: Path, make: Make, damage: str
) -> None:
    path = make(tmp_path, {f"{i}.xml": document(f"T{i}") * (1 if i else 50) for i in range(20)})
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {"cut": content[:middle], "garbage": content[:600] + b"\xff" * 800 + content[1400:], "empty": b""}[damage]
    )
    try:
        rows = list(read(path).rows)
    except InputError as error:
        assert str(path) in error.message  # noqa: PT017 - either outcome is right, a traceback is not
        return
    # Damage within a document of a tar without checksums shows in that document only.
    assert make is make_tar
    assert damage == "garbage"
    assert [row.file for row in rows if isinstance(row, UnreadRow)] == ["0.xml"]


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path, {"a.xml": document("Flu")})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be unpacked: .*password"):
        read(path)


@pytest.mark.parametrize("kind", ["table in a zip", "tar", "packed table"])
def test_archive_bombs_are_refused(tmp_path: Path, kind: str) -> None:
    caps = Caps(expanded_bytes=1 << 20)
    content = b"question,answer\n" + b"q,a\n" * 1_000_000
    if kind == "table in a zip":
        path = make_zip(tmp_path, {"a.csv": content})
    elif kind == "tar":
        path = make_tgz(tmp_path, {"a.csv": content})
    else:
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="looks like a bomb") as caught:
        open_sources([str(path)], ColumnNames(caps=caps))
    assert "raise data.max_expanded_bytes" in caught.value.hint
    raised = Caps(expanded_bytes=2 * len(content))
    first = next(open_sources([str(path)], ColumnNames(caps=raised)).rows)
    assert isinstance(first, RawRow)
    assert first.question == "q"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"readme.txt": "published under a Creative Commons\nAttribution 4.0 International Licence (CC BY)"},
            "cc-by-4.0",
        ),
        ({"LICENSE": "The MIT License (MIT)"}, "mit"),
        ({"LICENSE": "The MIT License", "README.md": "Data: CC0 1.0"}, None),
        ({"README.md": "Ask us."}, None),
    ],
)
def test_the_license_is_what_the_files_beside_the_data_say(tmp_path: Path, files: Files, expected: str | None) -> None:
    assert read(make_tgz(tmp_path, {"a.xml": document("Flu"), **files})).license == expected


def test_rows_of_an_archive_beside_another_source(tmp_path: Path) -> None:
    archive = make_zip(tmp_path, {"x/a.xml": document("Flu")})
    table = tmp_path / "qa.csv"
    table.write_text("question,answer\nq1,a1\n")
    opened = open_sources([str(archive), str(table)], ColumnNames())
    assert [row.file for row in opened.rows] == ["bundle.zip/x/a.xml", "bundle.zip/x/a.xml", "qa.csv"]


@pytest.mark.skipif(not MEDQUAD.is_dir(), reason=f"{MEDQUAD} is absent: the MedQuAD files are not part of the project")
def test_the_xml_of_medquad_holds_the_same_rows_as_its_table() -> None:
    opened = read(MEDQUAD / "medquad_xml_sample.tar.gz")
    assert opened.description == "MedQuAD XML, 384 documents"
    rows = list(opened.rows)
    found = Counter(
        (r.question, r.answer, r.source, r.topic, r.kind) for r in rows if isinstance(r, RawRow) and r.answer
    )
    # Four documents are left-overs of an older form (`doc`), which the table does not have either.
    assert Counter(row.reason for row in rows if isinstance(row, UnreadRow)) == {"not_medquad_xml": 4}
    sources = {source for _, _, source, _, _ in found}
    with open(MEDQUAD / "medquad.csv", encoding="utf-8", newline="") as file:
        names = ("question", "answer", "source", "focus", "qtype")
        table = Counter(tuple(r[name] for name in names) for r in csv.DictReader(file) if r["source"] in sources)
    assert found.total() == 2127
    assert found == table
