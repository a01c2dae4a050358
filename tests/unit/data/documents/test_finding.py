"""Which files are documents: folders in order, short names, what is refused."""

import os
from pathlib import Path

import pytest

from medqa_cli.data.documents.finding import document_kind, find_documents
from medqa_cli.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Text.", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "leaflets", "b.md", "a.txt", "Z.PDF", "sub/c.htm", "sub/d.csv.gz", "sub/e.docx", "f", ".g.md"
    )


def found_in(*named: Path | str, out: Path = Path("data/medqa"), sources: tuple[Path, ...] = ()) -> list[str]:
    return [file.name for file in find_documents([str(one) for one in named], out, sources).files]


def test_a_folder_is_looked_through_in_the_order_of_its_names(folder: Path) -> None:
    touch(folder, "__MACOSX/x.md", "~$a.txt", ".git/y.md")
    found = find_documents(str(folder), Path("data/medqa"), [])
    assert [file.name for file in found.files] == ["Z.PDF", "a.txt", "b.md", "sub/c.htm", "sub/d.csv.gz"]
    assert [file.shown for file in found.files] == [f"{folder}/{file.name}" for file in found.files]
    assert not any(file.is_named for file in found.files)
    assert found.others == {".docx": 1, "no suffix": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.TXT", "text"), ("a.md", "text"), ("a.xhtml", "page"), ("a.pdf", "pdf"), ("a.ods", "table"),
     ("a.jsonl", "table"), ("a.csv.gz", "table"), ("a.txt.gz", ""), ("a.zip", ""), ("a.xml", ""), ("txt", ""),
     ("a.docx", "")],
)  # fmt: skip
def test_the_kind_is_told_by_the_name(name: str, kind: str) -> None:
    assert document_kind(name) == kind


def test_files_and_folders_have_the_shortest_names_that_differ(folder: Path, tmp_path: Path) -> None:
    other = touch(tmp_path / "more", "a.txt")
    assert found_in(folder / "a.txt") == ["a.txt"]
    assert found_in(folder / "a.txt", other) == ["a.txt", "more/a.txt"]
    assert found_in(other / "a.txt", folder / "a.txt") == ["more/a.txt", "leaflets/a.txt"]
    assert found_in() == []
    assert find_documents(None, Path("out"), []).files == []


def test_a_file_in_a_folder_that_is_named_too_is_read_once(folder: Path) -> None:
    found = find_documents([str(folder / "b.md"), str(folder)], Path("out"), [])
    assert [(file.name, file.is_named) for file in found.files if file.path.name == "b.md"] == [("b.md", True)]
    assert len(found.files) == 5


def test_links_are_followed_to_files_and_not_to_folders(folder: Path, tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "x.md")
    (folder / "loop").symlink_to(folder)
    (folder / "there").symlink_to(tmp_path / "elsewhere")
    (folder / "y.md").symlink_to(tmp_path / "elsewhere/x.md")
    (folder / "circle.md").symlink_to(folder / "circle.md")
    found = find_documents(str(folder), Path("out"), [])
    names = [file.name for file in found.files]
    assert names == ["Z.PDF", "a.txt", "b.md", "circle.md", "sub/c.htm", "sub/d.csv.gz", "y.md"]
    assert found.others["links to folders"] == 2


def test_a_pipe_is_no_document(folder: Path) -> None:
    os.mkfifo(folder / "pipe.md")
    assert "pipe.md" not in found_in(folder)
    with pytest.raises(InputError, match=r"pipe\.md is a pipe; expected a file or a folder"):
        found_in(folder / "pipe.md")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.md", r"absent\.md does not exist"),
        ("dangling.md", r"dangling\.md is a link to something that does not exist"),
        ("sub/e.docx", r"e\.docx is no document that medqa reads; expected \.txt, \.md"),
        ("empty", r"empty holds no documents; found no files"),
        ("pictures", r"pictures holds no documents; found only 1 \.png"),
        ("converted", r"converted is a data set that was converted before"),
        ("circle.md", r"circle\.md .*"),
    ],
)
def test_what_is_no_document_is_refused(folder: Path, name: str, message: str) -> None:
    (folder / "dangling.md").symlink_to(folder / "nothing")
    (folder / "circle.md").symlink_to(folder / "circle.md")
    (folder / "empty").mkdir()
    touch(folder, "pictures/a.png", "converted/report.json", "converted/train.jsonl")
    with pytest.raises(InputError, match=message):
        found_in(folder / name)


def test_a_document_named_twice_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt is named twice"):
        found_in(folder / "a.txt", folder / "sub/../a.txt")


def test_the_data_folder_is_no_place_for_documents(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt lies in .*leaflets, which is replaced as a whole"):
        found_in(folder / "a.txt", out=folder)
    with pytest.raises(InputError, match=r"leaflets holds the data folder .*leaflets/out"):
        found_in(folder, out=folder / "out")
    assert found_in(folder / "a.txt", out=folder / "out") == ["a.txt"]


@pytest.mark.parametrize("source", ["sub/d.csv.gz", "sub", "."])
def test_a_source_is_no_document(folder: Path, source: str) -> None:
    with pytest.raises(InputError, match=r"leaflets holds rows of the source .*: held-out answers would stand in it"):
        found_in(folder, sources=(folder / source,))
    with pytest.raises(InputError, match=r"holds rows of the source"):
        found_in(folder / "sub/d.csv.gz", sources=(folder / source,))
