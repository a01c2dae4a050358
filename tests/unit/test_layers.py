"""Imports go downwards only, no private name crosses a module, and the light commands import nothing heavy."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import medqa_cli

PACKAGE = "medqa_cli"
ROOT = Path(medqa_cli.__file__).parent

# Each part (a module or package right below medqa_cli) and the parts that it may import. ``__init__`` is the package
# itself, which holds the version. A part that is missing here is a violation: it has no place in the design yet.
_GROUND = {
    "allocators",
    "cards",
    "child_process",
    "confined",
    "config",
    "console",
    "distributed",
    "environment",
    "errors",
    "files",
    "hub",
    "journal",
    "leftovers",
    "prompt",
    "resources",
    "spelling",
    "streams",
    "workers",
}
_WORKERS = {"training", "merging", "answering"}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "config": {"config", "errors", "files", "resources", "spelling"},
    "console": {"console", "errors", "streams"},
    "child_process": set(),
    "confined": {"child_process", "errors"},
    "workers": {"child_process", "errors"},
    "hub": set(),
    "distributed": {"errors"},
    "resources": set(),
    "spelling": set(),
    "streams": set(),
    "files": {"console", "errors", "leftovers"},
    "leftovers": set(),
    "environment": {"files"},
    "journal": {"console", "distributed", "errors", "files", "leftovers"},
    "allocators": set(),
    "cards": {"config", "prompt", "resources"},
    "prompt": {"errors", "config", "confined", "files", "prompt", "resources"},
    "data": _GROUND | {"__init__", "data"},
    "model": _GROUND | {"model"},
    "training": _GROUND | {"data", "model", "training"},
    "gguf": _GROUND | {"model", "gguf"},
    "merging": _GROUND | {"data", "model", "merging"},
    "answering": _GROUND | {"data", "model", "answering"},
    "evaluation": _GROUND | {"data", "model", "evaluation"} | _WORKERS,
    "review": _GROUND | {"data", "model", "evaluation", "review"} | _WORKERS,
    "serving": _GROUND | {"data", "model", "answering", "review", "serving"},
    "doctor": _GROUND | {"data", "model", "doctor"} | _WORKERS,
    "cli": {"__init__", "cli", "data", "doctor", "gguf", "model", "evaluation", "review", "serving"}
    | _GROUND
    | _WORKERS,
    "__main__": {"cli"},
}
# Which parts may import these at all.
THIRD_PARTY = {
    "click": set[str](),
    "rich": {"console"},
    "starlette": {"serving"},
    "typer": {"cli"},
    "uvicorn": {"serving"},
}
HEAVY = ("torch", "transformers", "peft", "datasets", "bitsandbytes", "pandas", "matplotlib", "starlette", "uvicorn")


@dataclass(frozen=True)
class Import:
    """One imported name: ``module`` is a full dotted path, ``name`` what is taken from it (empty for ``import x``)."""

    place: str
    part: str
    module: str
    name: str


def imports(root: Path) -> Iterator[Import]:
    """Every import below ``root``, inside functions and ``if TYPE_CHECKING`` too."""
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        part = relative.parts[0].removesuffix(".py")
        package = [PACKAGE, *relative.parts[:-1]]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{relative.as_posix()}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(place, part, alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    yield Import(place, part, module, alias.name)


def part_of(root: Path, found: Import) -> str | None:
    """The part of medqa that an import reaches; None for other packages."""
    names = [*found.module.split("."), *([found.name] if found.name else [])]
    if names[0] != PACKAGE:
        return None
    inner = names[1] if len(names) > 1 else "__init__"
    exists = (root / inner).is_dir() or (root / f"{inner}.py").is_file()
    # ``from medqa_cli import __version__`` takes a name of the package, not a module.
    return inner if exists or found.module != PACKAGE else "__init__"


def is_allowed(root: Path, found: Import) -> bool:
    target = part_of(root, found)
    if target == "config" and found.part not in ("config", "cli"):
        # The sections are all that a worker may know of the configuration, not how it is read.
        own = found.module == f"{PACKAGE}.config.schema" and found.name != "*"
        return own and target in ALLOWED.get(found.part, set())
    if target is not None:
        return target in ALLOWED.get(found.part, set())
    top, *below = found.module.split(".")
    private = top == "typer" and any(name.startswith("_") for name in [*below, found.name])
    return not private and (top not in THIRD_PARTY or found.part in THIRD_PARTY[top])


def violations(root: Path) -> list[str]:
    """Every import below ``root`` that the tables do not allow, and every use of a private part of typer."""
    wrong = [
        f"{found.place} imports {found.module} {found.name}".rstrip()
        for found in imports(root)
        if not is_allowed(root, found)
    ]
    return wrong + private_typer(root)


def private_typer(root: Path) -> list[str]:
    """Uses of ``typer._something``, which any release may drop."""
    return [
        f"{path.relative_to(root).as_posix()}:{node.lineno} uses typer.{node.attr}"
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "typer"
        and node.attr.startswith("_")
    ]


def crossing_private_names(root: Path) -> list[str]:
    """Private names that another module of medqa takes: by an import, or of a module or class that it imported."""
    wrong = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = path.relative_to(root).as_posix()
        bound = set()
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            inside = isinstance(node, ast.ImportFrom) and (node.level > 0 or is_ours(node.module or ""))
            for alias in node.names:
                if isinstance(node, ast.ImportFrom) and inside and is_private(alias.name):
                    wrong.append(f"{place}:{node.lineno} imports {alias.name}")
                elif inside or (isinstance(node, ast.Import) and is_ours(alias.name)):
                    bound.add(alias.asname or alias.name)
        wrong += [
            f"{place}:{node.lineno} uses {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in bound
        ]
    return wrong


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def test_imports_go_downwards_only() -> None:
    parts = {found.part for found in imports(ROOT)}
    # The walk saw the whole package, not an empty folder.
    assert {"config", "data", "model", "training", "merging", "answering", "evaluation", "serving", "cli"} <= parts
    assert violations(ROOT) == []


def test_every_part_has_a_place_in_the_table() -> None:
    found = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__pycache__"} == set(ALLOWED)


def test_the_table_itself_has_layers() -> None:
    """Whoever may be imported may not import back, at any distance; so no layer can be widened into a circle."""
    reached = {part: allowed - {part} for part, allowed in ALLOWED.items()}
    for _ in ALLOWED:
        reached = {part: below.union(*(reached[other] for other in below)) for part, below in reached.items()}
    assert [part for part, below in reached.items() if part in below] == []
    assert all(not (_WORKERS - {worker}) & reached[worker] for worker in _WORKERS)
    # From outside: a package may import its own modules.
    assert [part for part, allowed in ALLOWED.items() if "cli" in allowed - {part}] == ["__main__"]


PLANTED = {
    "upwards": ("model/base.py", "from medqa_cli.training import run"),
    "upwards, in a function": ("data/rows.py", "def f():\n    import medqa_cli.evaluation.run"),
    "upwards, by the package": ("console/printing.py", "from medqa_cli import config"),
    "upwards, relative": ("model/deep.py", "from ..answering import generate"),
    "relative, without a module": ("errors.py", "from . import console"),
    "typing only": ("errors.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import medqa_cli.prompt"),
    "sideways": ("training/run.py", "from medqa_cli.merging.merge import merge"),
    "sideways in a lower layer": ("data/rows.py", "from medqa_cli.model import source"),
    "the command line": ("evaluation/run.py", "from medqa_cli.cli.program import main"),
    "how the config is written": ("training/run.py", "from medqa_cli.config.dump import resolved_yaml"),
    "the config's reader": ("training/run.py", "from medqa_cli.config.load import load"),
    "click": ("cli.py", "import click.exceptions"),
    "rich": ("training/report.py", "def f():\n    from rich.table import Table"),
    "typer below": ("model/base.py", "import typer"),
    "a web server below": ("answering/ask.py", "def f():\n    import uvicorn"),
    "private typer": ("cli.py", "import typer\ntyper._click"),
    "private typer module": ("cli.py", "from typer._click import Context"),
    "a new part": ("helpers.py", "from medqa_cli import errors"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_walk_finds_a_planted_violation(tmp_path: Path, name: str) -> None:
    for part in ALLOWED:
        path = tmp_path / f"{part}.py" if (ROOT / f"{part}.py").is_file() else tmp_path / part / "__init__.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / "cli.py").write_text("import typer\nfrom medqa_cli import __version__, console\ntyper.Typer()\n")
    (tmp_path / "model" / "base.py").write_text("from medqa_cli.config.schema import ModelConfig\n")
    assert violations(tmp_path) == []
    file, code = PLANTED[name]
    with open(tmp_path / file, "a", encoding="utf-8") as opened:
        opened.write(code + "\n")
    assert len(violations(tmp_path)) == 1
    assert violations(tmp_path)[0].startswith(file)


def test_no_private_name_crosses_a_module() -> None:
    assert crossing_private_names(ROOT) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from medqa_cli.files import _write", "imports _write"),
        ("from .files import _write as write", "imports _write"),
        ("def f():\n    from medqa_cli.files import _Folder", "imports _Folder"),
        ("from medqa_cli import files\nfiles._write()", "uses files._write"),
        ("from medqa_cli import files as f\nf._write()", "uses f._write"),
        ("import medqa_cli.files\nmedqa_cli.files._write()", "uses medqa_cli.files._write"),
        ("from medqa_cli.files import Folder\nprint(Folder._made)", "uses Folder._made"),
    ],
)
def test_a_planted_private_name_is_found(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "clean.py").write_text(
        "import sys\nfrom medqa_cli import __version__, files\nfiles.write(sys._getframe(), files.__name__)\n_own = 1\n"
    )
    assert crossing_private_names(tmp_path) == []
    (tmp_path / "planted.py").write_text(code + "\n")
    (found,) = crossing_private_names(tmp_path)
    assert found.startswith("planted.py:")
    assert found.endswith(said)


RUN_AND_LIST_MODULES = """
import json, sys
from pathlib import Path
from medqa_cli.cli.program import main
try:
    main()
finally:
    Path("modules.json").write_text(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "convert"),
        ([], 2, "medqa config init"),
        (["config", "init", "--gpu-memory", "16"], 0, "Qwen3-8B"),
        (["config", "check"], 0, "no problem found"),
        (["config", "show"], 0, "learning_rate"),
        (["ask", "What is glaucoma?"], 2, "nothing has been trained"),
        (["train"], 2, "nothing has been converted"),
    ],
)
def test_light_commands_import_nothing_heavy(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_MODULES, *arguments],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr
    modules = set(json.loads((tmp_path / "modules.json").read_text()))
    assert f"{PACKAGE}.cli" in modules
    assert sorted(modules & set(HEAVY)) == []
