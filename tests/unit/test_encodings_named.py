"""No text file and no output of a program is read or written in the code page of the machine."""

import ast
from pathlib import Path

import medqa_cli

ROOT = Path(medqa_cli.__file__).parent
# What opens texts, and the position of the mode among its arguments; None: it always opens texts.
TEXT_DOORS = {"open": 1, "read_text": None, "write_text": None, "TextIOWrapper": None, "NamedTemporaryFile": 0}


def without_encoding(source: str) -> list[int]:
    """The lines that open a text, or take a program's output as one, without naming an encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in named:
            continue
        if name in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & named.keys():
            found.append(node.lineno)
        elif name in TEXT_DOORS:
            if isinstance(node.func, ast.Attribute) and name == "open":
                continue  # of archives, modules and our own classes
            place = TEXT_DOORS[name]
            mode = named.get("mode")
            if mode is None and place is not None and len(node.args) > place:
                mode = node.args[place]
            is_binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
            reads_package = ast.unparse(node).startswith(("read_text(path", "read_text(whole"))  # functions of ours
            if not is_binary and not reads_package and not (name == "NamedTemporaryFile" and mode is None):
                found.append(node.lineno)
    return found


def test_every_text_has_its_encoding_named() -> None:
    wrong = [
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for path in sorted(ROOT.rglob("*.py"))
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_a_text_without_one_is_found() -> None:
    code = 'open("a")\nopen("a", "rb")\nopen("a", encoding="utf-8")\npath.read_text()\nrun(["x"], text=True)\n'
    assert without_encoding(code) == [1, 4, 5]
