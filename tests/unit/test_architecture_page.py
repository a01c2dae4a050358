"""docs/architecture.md names files and functions that exist, and counts its walks right."""

import ast
import re
from collections import Counter
from pathlib import Path

import medqa_cli
from helpers.paths import ROOT

PACKAGE = Path(medqa_cli.__file__).parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
_QUOTED = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w/*.]+\.(py|yaml|txt|html\.j2|md\.j2)")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def missing(text: str) -> list[str]:
    """The files that a line names and that are not there, and the functions and tables that none of its files holds."""
    wrong = []
    for line in text.splitlines():
        sources, folders, names = "", [PACKAGE, PACKAGE / "resources", ROOT], []
        for quoted in _QUOTED.findall(line):
            if quoted.endswith("/"):
                folders.append(PACKAGE / quoted)
            elif _FILE.fullmatch(quoted):
                paths = [path for folder in folders for path in folder.glob(quoted)]
                folders += [path.parent for path in paths]
                sources += "".join(path.read_text(encoding="utf-8") for path in paths)
                wrong += [] if paths else [quoted]
            elif re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", quoted):
                names.append(quoted.rpartition(".")[2])
        if sources:
            wrong += [name for name in names if re.search(rf"\b{name}\b", sources) is None]
    return wrong


def test_the_files_and_names_of_the_page_exist() -> None:
    rows = section("Where to look")
    assert rows.count("\n| ") > 30
    # ``ask`` and the like are commands, not names in a file; they begin no row's second cell.
    assert missing("\n".join(row.split(" | ", 1)[-1] for row in rows.splitlines())) == []


def test_every_name_that_stands_for_several_files_is_in_its_table() -> None:
    names = Counter(path.name for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))
    table = PAGE.partition("Some names of files")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+\.py)` \| (.*) \|$", table, re.MULTILINE))
    assert set(rows) == {name for name, count in names.items() if count > 1}
    for name, row in rows.items():
        folders = [f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob(name) if path.parent != PACKAGE]
        assert {quoted for quoted in _QUOTED.findall(row) if quoted.endswith("/")} == set(folders), name


def test_a_wrong_file_and_a_wrong_name_are_found() -> None:
    row = "`METRICS` in `evaluation/metrics.py`, `decode.py` of `answering/`, `nowhere.py`, `_not_there` in it"
    assert missing(row) == ["decode.py", "nowhere.py", "_not_there"]
    assert missing("`METRICS` in `evaluation/metrics.py`; `bootstrap.py` beside it") == []


def test_the_tree_names_every_package_and_module_at_the_top() -> None:
    tree = section("The tree").split("```")[1]
    top = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith(("_", "py.typed"))}
    assert {name for name in top if re.search(rf"^  {name}(/|\.py) ", tree, re.MULTILINE) is None} == set()


def walks() -> dict[str, tuple[str, dict[str, Path]]]:
    """The sentence of each walk that names its modules, and those, by its title."""
    found = {}
    for walk in section("Three walks").split("\n\n"):
        if walk.startswith("**"):
            title, _, body = " ".join(walk.split()).partition(":** ")
            sentence, folder, modules = body.partition(": ")[2].partition(". ")[0], PACKAGE, {}
            for module in re.findall(r"`([\w/]+)`", sentence):
                # A name without its folder is in that of the one before it.
                paths = (PACKAGE / f"{module}.py", folder / f"{module}.py")
                modules[module] = next(path for path in paths if path.is_file())
                folder = modules[module].parent
            found[title] = sentence, modules
    return found


def imported_by(path: Path) -> set[Path]:
    """The modules of the package that a module imports, at its top or within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {PACKAGE.parent / f"{name.replace('.', '/')}.py" for name in names if name.startswith("medqa_cli.")}


def test_the_walks_name_modules_and_count_them() -> None:
    assert [title.split(",")[0] for title in walks()] == ["**A row", "**The config", "**A weight"]
    for title, (_, modules) in walks().items():
        assert len(set(modules.values())) == int(re.search(r"\((\d+)", title)[1]), title  # type: ignore[index]


def test_each_module_of_a_walk_imports_another_one_of_it_or_is_imported_by_one() -> None:
    for _, modules in walks().values():
        pairs = [{path, other} for path in modules.values() for other in imported_by(path) & set(modules.values())]
        # What cli/convert renders with is made in prompt/template, once for all rows.
        assert set(modules.values()) - set().union(*pairs) <= {PACKAGE / "prompt/text.py"}


def test_modules_in_brackets_of_a_walk_are_imported_by_the_one_before_them() -> None:
    sentence, modules = walks()[[*walks()][2]]
    groups = re.findall(r"`([\w/]+)` \(with ([^)]+)\)", sentence)
    assert [name for name, _ in groups] == ["merging/run", "merging/inputs", "merging/plan", "merging/architecture"]
    for name, others in groups:
        assert {modules[other] for other in _QUOTED.findall(others)} <= imported_by(modules[name]), name
