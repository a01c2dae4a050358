"""What a person sees while waiting: each command says that it starts before it imports what takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.commands import write_workspace

HEAVY = ("torch", "transformers", "peft", "datasets", "bitsandbytes", "numpy", "matplotlib", "starlette")
COMMANDS = [
    ["convert", "qa.csv"],
    ["convert", "--audit", "data"],
    ["convert", "qa.csv", "--show", "identifiers"],
    ["train"],
    ["train", "--plan"],
    ["train", "--method", "dpo"],
    ["eval"],
    ["eval", "--rescore"],
    ["merge"],
    ["ask", "What is gout?"],
    ["ask", "--file", "qa.csv"],
    ["serve"],
    ["doctor"],
    ["review", "make"],
    ["review", "score", "a.json"],
    ["review", "export", "a.json"],
]
END_AT_THE_FIRST_WORD = """
import json, sys
from medqa_cli import console
from medqa_cli.cli.program import main

class Said(BaseException):
    pass

def say(text):
    raise Said(text)

console.doing = say
heavy, commands = json.loads(sys.argv[1])
found = []
for words in commands:
    sys.argv = ["medqa", *words]
    try:
        main()
    except Said as said:
        found.append([str(said), sorted(set(heavy) & set(sys.modules))])
    except SystemExit as end:
        found.append([f"exit code {end.code}", []])
print(json.dumps(found))
"""


def test_each_command_says_that_it_starts_before_it_imports_anything_slow(tmp_path: Path) -> None:
    write_workspace(tmp_path, tmp_path)
    for name in ("data/train.jsonl", "run/adapter/adapter_config.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}\n")
    done = subprocess.run(
        [sys.executable, "-c", END_AT_THE_FIRST_WORD, json.dumps([HEAVY, COMMANDS])],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(zip(map(" ".join, COMMANDS), json.loads(done.stdout), strict=True))
    assert found == {command: ["loading the libraries ...", []] for command in found}, done.stderr
