"""PDF files as parts: lines as they were before they were set, pages, titles, and files that are refused."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.pdfs import encrypted, page_content, pdf_of, stream_of, write_pdf
from medqa_cli.data.documents.pdf import check_installed, read_pdf
from medqa_cli.data.documents.sections import Document, document_of
from medqa_cli.data.reading.shapes import Caps
from medqa_cli.errors import InputError

HEAD = "Example Clinic"
PAGES = [
    [
        HEAD,
        "Gout is a painful kind of arthritis that be-",
        "gins at night. It is a long-term disease, and long-",
        "term treatment (each day) helps most people",
        "who have it.",
        "Causes",
        "Too much uric acid in the blood makes crystals",
        "in a joint – first in the big toe, and some years",
        "Page 1 of 3",
    ],
    [HEAD, "later elsewhere. It gets worse with food such as:", "- beer", "- liver and other organ meats", "2"],
    [HEAD, "See a doctor if you have a fever.", "- 3 -"],
]
TEXT = (
    "Gout is a painful kind of arthritis that begins at night. It is a long-term disease, and long-term treatment "
    "(each day) helps most people who have it.\nCauses\nToo much uric acid in the blood makes crystals in a joint – "
    "first in the big toe, and some years later elsewhere. It gets worse with food such as:\n- beer\n"
    "- liver and other organ meats\nSee a doctor if you have a fever."
)


def read(path: Path, **caps: float) -> Document:
    title, parts, warnings = read_pdf(path, path.name, Caps(**caps))  # type: ignore[arg-type]
    return document_of(parts, title, path.stem, warnings)


@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_joined_across_pages_and_running_heads_go(tmp_path: Path, packed: bool) -> None:
    document = read(write_pdf(tmp_path / "gout.pdf", PAGES, "Living with gout", packed))
    assert (document.title, document.warnings) == ("Living with gout", ())
    (section,) = document.sections
    assert section.text == TEXT
    places = {word: section.place_at(section.text.index(word)) for word in ("Gout", "some years", "later", "See")}
    assert places == {"Gout": "page 1", "some years": "page 1", "later": "page 2", "See": "page 3"}


@pytest.mark.parametrize("stated", ["", "Microsoft Word - x.docx", "untitled", "gout_final.pdf", "...", "1234"])
def test_a_title_of_a_program_is_none(tmp_path: Path, stated: str) -> None:
    path = write_pdf(tmp_path / "gout.pdf", [["Living with gout", "It hurts, as all know who ever had it."]], stated)
    document = read(path)
    assert (document.title, document.sections[0].text) == ("Living with gout", "It hurts, as all know who ever had it.")
    assert read(write_pdf(path, [["It hurts."]], stated)).title == "gout"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["Das ist eine Magen-", "Darm-Grippe."], "Das ist eine Magen-Darm-Grippe."),
        (["Der Blut-", "zucker steigt."], "Der Blutzucker steigt."),
        (
            ["The uric\xad", "acid, 2-", "3 tablets, a break –", "then more."],
            "The uricacid, 2-\n3 tablets, a break – then more.",
        ),
    ],
)
def test_words_divided_at_the_end_of_a_line(tmp_path: Path, lines: list[str], text: str) -> None:
    (section,) = read(write_pdf(tmp_path / "a.pdf", [lines], "Gout")).sections
    assert section.text == text


def test_a_head_with_the_number_of_its_page_goes_where_most_pages_have_one(tmp_path: Path) -> None:
    pages = [["Contents", "i"], ["Chapter 1: Gout 7", "One."], ["Chapter 1: Gout 8", "2 tablets."], ["9", "3 drops."]]
    pages += [["10 Chapter 2: Asthma", "9 puffs."], ["11 Chapter 2: Asthma", "Chapter 2: Gout 4"], ["12", "12 days"]]
    (section,) = read(write_pdf(tmp_path / "a.pdf", pages, "Leaflets")).sections
    assert section.text == "\n".join(
        ["Contents i", "One.", "2 tablets.", "3 drops.", "9 puffs.", "Chapter 2: Gout 4", "12 days"]
    )


def test_a_bare_number_that_is_no_page_number_stays(tmp_path: Path) -> None:
    pages = [["Dose in mg, a day:", "20"], ["2", "More is of no use.", "Page 2"], ["40", "4"]]
    (section,) = read(write_pdf(tmp_path / "a.pdf", pages)).sections
    assert section.text == "Dose in mg, a day:\n20\nMore is of no use.\n40\n4"


def test_pages_of_nothing_but_equal_lines_are_kept(tmp_path: Path) -> None:
    (section,) = read(write_pdf(tmp_path / "a.pdf", [["Gout hurts."]] * 4)).sections
    assert section.text == "\n".join(["Gout hurts."] * 4)


def test_ligatures_become_letters_that_are_searched_for(tmp_path: Path) -> None:
    # A font whose byte 1 is the sign for "fi".
    mapping = stream_of(b"1 begincodespacerange <00> <ff> endcodespacerange\n1 beginbfchar <01> <FB01> endbfchar")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding /ToUnicode 6 0 R >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 5 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
        stream_of(page_content(["\x01ve joints"])),
        mapping,
    ]
    (tmp_path / "a.pdf").write_bytes(pdf_of(objects))
    assert read(tmp_path / "a.pdf").sections[0].text == "five joints"


def test_pages_without_text_are_told(tmp_path: Path) -> None:
    document = read(write_pdf(tmp_path / "half.pdf", [b"", ["Some words."], b"q Q"]))
    assert document.sections[0].place_at(0) == "page 2"
    assert document.warnings == ("half.pdf: 2 of 3 pages hold no text that can be read: 1, 3",)


def test_scanned_pages_are_refused(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "scan.pdf", [b"q Q", b""])
    with pytest.raises(
        InputError, match=r"scan\.pdf holds no text that can be read on its 2 pages: they may"
    ) as caught:
        read(path)
    assert "OCR" in caught.value.hint


def test_a_password_is_asked_for_only_where_one_is_needed(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", PAGES)
    assert read(encrypted(path, "")).sections[0].text == TEXT
    with pytest.raises(InputError, match=r"^a\.pdf is encrypted$") as caught:
        read(encrypted(write_pdf(path, PAGES), "secret"))
    assert caught.value.hint.startswith("save it without a password")


def bomb(path: Path) -> Path:
    return write_pdf(path, [b" " * (120 << 20)], packed=True)


def endless_page(path: Path) -> Path:
    return write_pdf(path, [b"BT /F1 11 Tf " + b"(word) Tj " * (2 << 20) + b"ET"], packed=True)


def circle(path: Path) -> Path:
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>"]
    path.write_bytes(pdf_of(objects))
    return path


def deep(path: Path) -> Path:
    path.write_bytes(pdf_of([b"<< /Type /Catalog /Pages 2 0 R /X " + b"[" * 100_000 + b"]" * 100_000 + b" >>"]))
    return path


def damaged(path: Path) -> Path:
    path.write_bytes(b"%PDF-1.4\n" + b"\0\xff" * 1000)
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def cut_off(path: Path) -> Path:
    path.write_bytes(write_pdf(path, PAGES).read_bytes()[:700])
    return path


@pytest.mark.parametrize("make", [bomb, endless_page, circle, deep, damaged, empty, cut_off])
def test_a_hostile_file_is_one_message(tmp_path: Path, make: object) -> None:
    assert callable(make)
    path = make(tmp_path / "a.pdf")
    with pytest.raises(InputError, match=r"^a\.pdf cannot be read: ") as caught:
        read(path, reader_seconds=2.0, reader_bytes=256 << 20)
    assert "save" in caught.value.hint


def test_many_slow_pages_are_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["word"]] * 12)
    hours = iter(range(100))
    monkeypatch.setattr("medqa_cli.data.documents.pdf.time", SimpleNamespace(monotonic=lambda: 20 * next(hours)))
    assert read(path, reader_seconds=24.0).sections
    with pytest.raises(InputError, match=r"^a\.pdf cannot be read in 230 seconds$") as caught:
        read(path, reader_seconds=23.0)
    assert "data.max_reader_seconds" in caught.value.hint


def test_more_text_than_may_be_unpacked_is_refused(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["word " * 20] * 100] * 20)
    with pytest.raises(InputError, match=r"^a\.pdf holds more than 0 MiB of text$"):
        read(path, expanded_bytes=100_000)


def test_a_missing_package_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package pypdf, which is not installed") as caught:
        check_installed()
    assert caught.value.hint.startswith("pip install pypdf (")
