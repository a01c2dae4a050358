"""The program that runs all benchmarks: what it records of one that works, fails or cannot run, and what is drawn."""

import importlib
import json
import random
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT

WORKS = """
import json, sys
json.dump({"argument": sys.argv[1]}, open(sys.argv[sys.argv.index("--json") + 1], "w"))
"""
DISAGREES = WORKS + "sys.exit(1)"
STOPS = "import sys\nsys.exit('no such model')"


@pytest.fixture
def run_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with three scripts in place of the benchmarks."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("run_all")
    (tmp_path / "benchmarks").mkdir()
    for name, text in (("works", WORKS), ("disagrees", DISAGREES), ("stops", STOPS)):
        (tmp_path / f"benchmarks/{name}.py").write_text(text)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_the_figures_of_a_script_and_its_command_without_folders(run_all: Any, tmp_path: Path) -> None:
    entry = run_all.run(run_all.Benchmark("works", (tmp_path / "private/rows.csv", "--times", "1")), tmp_path)
    assert entry["status"] == "done"
    assert entry["figures"] == {"argument": str(tmp_path / "private/rows.csv")}
    assert entry["command"] == "python benchmarks/works.py rows.csv --times 1"


@pytest.mark.parametrize("name", ["disagrees", "stops"])
def test_a_script_that_fails_is_recorded_as_failed(run_all: Any, tmp_path: Path, name: str) -> None:
    entry = run_all.run(run_all.Benchmark(name, ("x",)), tmp_path)
    assert (entry["status"], entry["exit_code"]) == ("failed", 1)
    assert ("figures" in entry) == (name == "disagrees")


def test_one_that_lacks_something_keeps_its_earlier_figures(run_all: Any, tmp_path: Path) -> None:
    left_out = run_all.run(run_all.Benchmark("works", missing="needs a GPU"), tmp_path)
    assert left_out["reason"] == "needs a GPU"
    assert "figures" not in left_out
    earlier = {"works": {"status": "done", "figures": {}}}
    assert run_all.merged(earlier, "works", left_out) == earlier
    assert run_all.merged({}, "works", left_out) == {"works": left_out}
    again = run_all.run(run_all.Benchmark("works", ("x",)), tmp_path)
    assert run_all.merged(earlier, "works", again) == {"works": again}


def test_the_machine_is_described_without_naming_it(run_all: Any) -> None:
    found = run_all.machine()
    of_the_run = {"python", "platform", "machine", "cpu_count", "packages", "git_commit"}
    assert set(found) == {"cpu", "cpu_features", "memory_bytes", "gpu"} | of_the_run
    assert found["packages"]["torch"]
    assert found["cpu_count"] >= 1
    assert str(Path.home()) not in json.dumps(found)


def test_what_failed_or_was_left_out_is_not_drawn(run_all: Any, tmp_path: Path) -> None:
    rates = {"tokens_per_second": {"one_by_one": 30.0, "batches": 260.0}}
    sides = {"sides": {"medqa": {"tokens_per_second": 1.0, "peak_memory_bytes": 1}}}
    entries = {
        "eval": {"status": "done", "figures": rates},
        "train_throughput": {"status": "failed", "figures": sides},
        "ask": {"status": "left out", "reason": "x"},
    }
    (panel,) = run_all.picture.panels(entries)
    assert panel.bars == {"one question after another": 30.0, "medqa eval": 260.0}
    run_all.picture.draw(entries, tmp_path / "images/all.png")
    assert (tmp_path / "images/all.png").read_bytes().startswith(b"\x89PNG")
    run_all.picture.draw({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_page_of_figures_is_made_of_the_results(run_all: Any) -> None:
    entries = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    assert run_all.figures_page.page(entries) == (ROOT / "docs/figures.md").read_text(encoding="utf-8")


def leaves(value: Any) -> int:
    # A figure with its interval, and with the counts that it is of, is one cell.
    if isinstance(value, dict) and not value.keys() & {"ci95", "low"}:
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if value and isinstance(value, list) and isinstance(value[0], dict) else 1


@pytest.mark.parametrize(
    ("figures", "table"),
    [
        ({"share": {"value": 0.125, "ci95": [0.1, 0.25]}}, ["| share | 0.125 [0.1, 0.25] |"]),
        ({"f": {"share": 0.5, "hits": 2, "count": 4, "low": 0.1, "high": 0.9}}, ["| f | 0.5 [0.1, 0.9] (2 of 4) |"]),
        ({"f": {"ci95": [0.0, 1.0]}}, ["| f, ci95 | 0, 1 |"]),
        ({"peak_bytes": 2**31, "used_bytes": 2**20, "rows": 1234567}, ["| peak | 2.00 GiB |", "| used | 1 MiB |"]),
        ({"none": None, "yes": True, "empty": [], "q8_0": 12345.6}, ["| empty | none |", "| q8_0 | 12,346 |"]),
        ({"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}}, ["|  | x | y |", "| b | 3 | 4 |"]),
        ({"rows": [{"of": "a|b", "n": 1}, {"of": "c", "n": 2}]}, ["**rows**", "| 1 | a\\|b | 1 |"]),
        ({"a": {"x": 1}, "b": {"deep": {"y": 2, "z": {"w": 3}}}}, ["| a, x | 1 |", "**b, deep**", "| z, w | 3 |"]),
    ],
)
def test_groups_with_the_same_names_share_a_table(run_all: Any, figures: dict[str, Any], table: list[str]) -> None:
    blocks = "\n".join(run_all.figures_page._blocks("", figures))
    assert all(line in blocks.split("\n") for line in table), blocks


@pytest.mark.parametrize("name", sorted(json.loads((ROOT / "benchmarks/results.json").read_text())))
def test_the_page_drops_no_figure_of_a_benchmark(run_all: Any, name: str) -> None:
    figures = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))[name]["figures"]
    tables = [block.split("\n") for block in run_all.figures_page._blocks("", figures) if block.startswith("| ")]
    shown = 0
    for header, _, *rows in (table[:-1] for table in tables):
        assert header.startswith(("| figure |", "|  |"))
        shown += sum(cell != "" for row in rows for cell in row[2:-2].split(" | ")[1:])
    assert shown == leaves(figures)


def test_what_failed_and_what_was_not_run_is_said_on_the_page(run_all: Any) -> None:
    entry = {"command": "python benchmarks/ask.py", "date": "2026-12-01", "machine": run_all.machine()}
    text = run_all.figures_page.page(
        {
            "ask": {**entry, "status": "left out", "reason": "needs a GPU"},
            "eval": {**entry, "status": "failed", "exit_code": 1, "seconds": 2.0, "figures": {"ratio": 2}},
        }
    )
    assert "not run on 1 December 2026, machine A: needs a GPU." in text
    assert "**It failed (exit code 1).**" in text.replace("\n", " ")
    assert "| ratio | 2 |" in text


def test_every_script_is_in_the_list_or_is_a_part_of_one() -> None:
    listed = subprocess.run(
        [sys.executable, "benchmarks/run_all.py", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    parts = {
        "figures",
        "figures_page",
        "picture",
        "run_all",
        "off_template_questions",
        "look_alikes",
        "gguf_llama_cpp",
        "gpu_stages",
        "identifier_texts",
        "identifier_texts_independent",
        "identifiers_presidio",
    }
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - parts
    assert {line.split("benchmarks/")[1].split(".py")[0] for line in listed.splitlines()} == scripts


def test_look_alikes_are_asked_by_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("look_alikes")
    rows = [
        "What are the treatments for type 1 diabetes?",
        "What are the treatments for type 2 diabetes?",
        "What is right heart failure?",
        "What is heart failure?",
        "What is Crohn's disease?",
        "What is Addison's disease?",
    ]
    generator = module.LookAlikes(rows, 1)
    made = [(rule, question) for row in rows for rule, question in generator.of(row).items()]
    assert {question for _, question in made}.isdisjoint(rows)
    assert {rule for rule, _ in made} == {
        "another number", "of some people", "negated", "one letter", "another kind", "asked beside it", "a word more",
        "a word less",
    }  # fmt: skip
    assert ("another number", "What are the treatments for type 47 diabetes?") in made
    assert "What is heart failure?" not in generator.of("What is right heart failure?").values()


def test_identifiers_are_scored_by_what_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module, texts = importlib.import_module("identifiers"), importlib.import_module("identifier_texts")
    made = texts.Made("Ann Lee called 617-555-0142 on May 3", ((0, 7, "name"), (15, 27, "phone")))
    clean = texts.Made("Nothing here", ())
    # Half of the name; the whole number and a word more; a wrong date; a find where nothing is.
    found = [[(0, 3, "name"), (8, 27, "phone"), (31, 36, "date")], [(0, 7, "name")]]
    scored = module.score([made, clean], found)
    assert {kind: rate["hits"] for kind, rate in scored["recall"].items()} == {"name": 0, "phone": 1}
    assert {kind: (rate["hits"], rate["count"]) for kind, rate in scored["precision"].items()} == {
        "name": (1, 2), "phone": (1, 1), "date": (0, 1),
    }  # fmt: skip
    assert scored["clean_texts_touched"]["share"] == 1
    assert module.interval(95, 100) == pytest.approx((0.888, 0.978), abs=1e-3)


def test_nothing_is_found_in_the_texts_without_identifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module, texts = importlib.import_module("identifiers"), importlib.import_module("identifier_texts")
    without = texts.make("without", 120, 7)
    assert len({made.text for made in without}) > 90
    assert [made.text for made, spans in zip(without, module.ours(without), strict=True) if spans] == []


def test_italian_towns_are_drawn_from_a_list_that_is_the_same_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("identifier_texts_independent")
    towns = types.SimpleNamespace(cities=["Torino", "Bari", "Milano"])
    fake = types.SimpleNamespace(provider={"faker.providers.address": towns}.__getitem__)
    monkeypatch.setitem(sys.modules, "faker", types.SimpleNamespace(Faker=lambda locale: fake))
    assert module._faker.__wrapped__("it_IT") is fake
    assert towns.cities == ["Bari", "Milano", "Torino"]


@pytest.mark.parametrize("hand", ["independent", "third", "fourth", "fifth"])
def test_the_texts_of_another_hand_say_where_their_identifiers_stand(
    hand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("identifier_texts_independent")
    parts = module.parts_of_file(hand)
    values = types.SimpleNamespace(of={"first": "Zoë", "phone": "617 555 0142"}.__getitem__)
    for seed in range(40):  # every style of writing
        made = module._filled("Please call {first}, my wife: {phone}.", parts, values, random.Random(seed))
        found = [(made.text[start:end].lower(), kind) for start, end, kind in made.spans]
        assert found == [("zoë", "name"), ("617 555 0142", "phone")]
    slots = {which: set(re.findall(r"\{(\w+)\}", str(parts[which]))) for which in ("with", "without")}
    assert slots["without"] == set(parts["fillers"])
    assert all(hasattr(module._Values, slot) or slot in parts["forms"] for slot in slots["with"])
    assert set(parts["kinds"]) <= slots["with"]
    assert not any(made.spans for made in module.make(hand, False, 91, 1))
