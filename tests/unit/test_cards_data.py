"""The data card: front matter as the hub and ``datasets`` read it, counts, nothing of this machine, no forged page."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from medqa_cli.cards import MOST_FILES, data_card
from medqa_cli.config.schema import DataConfig

SHA = "ab" * 32
REPORT: dict[str, Any] = {
    "source": {"path": "/home/ann/secret project/medquad.csv", "sha256": SHA},
    "rows": {"read": 16_407, "kept": 16_000, "rejected": {"empty_answer": 7, "exact_duplicate": 400}},
    "splits": {"train": 13_600, "validation": 800, "test": 1_600},
    "cleaning": {"whitespace": 7_952, "echo": 0},
    "leakage": {
        "test": {"question": 0, "answer": 3, "near_duplicate_answer": None, "topic": 0},
        "validation": {"question": 0, "answer": 1, "near_duplicate_answer": None, "topic": 0},
    },
    "tokens": {"answer": {"p50": 178, "p90": 524, "p99": 1_583, "max": 5_405}, "longer_than_max_length": 1_980},
    "topics": {"column": None, "known": 15_990, "distinct": 5_126, "once": 2_000, "doubt": None},
    "seconds": 3.18,
}
INFO: dict[str, Any] = {
    "name": "medquad",
    "seed": 42,
    "license": None,
    "medqa_version": "0.1.0",
    "settings": asdict(DataConfig(source="/home/ann/medquad.csv", dir="/home/ann/out", max_rows=16_000)),
    "rule_docs": {"whitespace": "No needless spaces.", "echo": "No question in the answer."},
}


def report_with(**changed: Any) -> dict[str, Any]:
    return copy.deepcopy(REPORT) | changed


def parts_of(card: str) -> tuple[dict[str, Any], str]:
    """Front matter and page, taken apart as the hub does it: at the next line of three dashes."""
    opening, front, page = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(front), page


def table_of(page: str, first_cell: str) -> list[list[str]]:
    """The cells of the table with this header, without the header."""
    lines = page.split("\n")
    [start] = [i for i, line in enumerate(lines) if line.startswith(f"| {first_cell} |")]
    width = lines[start].count("|")
    found: list[list[str]] = []
    for line in lines[start + 2 :]:
        if not line:
            return found
        assert line.replace("\\|", "").count("|") == width
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    raise AssertionError("the table has no end")


def test_front_matter_is_what_the_hub_reads() -> None:
    front, _ = parts_of(data_card(REPORT, **INFO))
    assert front == {
        "pretty_name": "medquad",
        "license": "unknown",
        "task_categories": ["question-answering", "text-generation"],
        "tags": ["medical"],
        "size_categories": ["10K<n<100K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "train.jsonl"},
                    {"split": "validation", "path": "validation.jsonl"},
                    {"split": "test", "path": "test.jsonl"},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("kept", "size"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (820_000, "100K<n<1M"),
    ],
)
def test_the_size_category_is_that_of_the_kept_rows(kept: int, size: str) -> None:
    report = report_with(rows={"read": kept, "kept": kept, "rejected": {}})
    assert parts_of(data_card(report, **INFO))[0]["size_categories"] == [size]


@pytest.mark.parametrize(
    ("license", "keys", "sentence"),
    [
        (None, {"license": "unknown"}, "License of the source: unknown; check before you share."),
        ("CC BY 4.0", {"license": "cc-by-4.0"}, "License of the source, as stated there: CC BY 4.0."),
        ("cc-by-nc-sa-3.0", {"license": "cc-by-nc-sa-3.0"}, "License of the source, as stated there: cc-by-nc-sa-3.0."),
        (
            "Hospital terms,\nv2",
            {"license": "other", "license_name": "hospital-terms-v2"},
            "License of the source, as stated there: Hospital terms, v2.",
        ),
        (
            "Лицензия",
            {"license": "other", "license_name": "as-stated-in-the-card"},
            "License of the source, as stated there: Лицензия.",
        ),
    ],
)
def test_the_license_is_in_front_matter_and_page(license: str | None, keys: dict[str, str], sentence: str) -> None:
    front, page = parts_of(data_card(REPORT, **INFO | {"license": license}))
    assert {key: value for key, value in front.items() if key.startswith("license")} == keys
    assert f"## License\n\n{sentence}\n" in page


def test_counts_of_rows_splits_and_shared_texts_are_on_the_page() -> None:
    _, page = parts_of(data_card(REPORT, **INFO))
    assert "16,407 rows read = 16,000 kept + 407 rejected." in page
    assert table_of(page, "rejected because") == [["`exact_duplicate`", "400"], ["`empty_answer`", "7"]]
    assert table_of(page, "split") == [
        ["train", "`train.jsonl`", "13,600", "85.0 %"],
        ["validation", "`validation.jsonl`", "800", "5.0 %"],
        ["test", "`test.jsonl`", "1,600", "10.0 %"],
    ]
    assert table_of(page, "shared") == [
        ["question", "0", "0"],
        ["answer", "3", "1"],
        ["near duplicate of the answer", "not measured", "not measured"],
        ["topic", "0", "0"],
    ]
    assert table_of(page, "rule") == [
        ["`whitespace`", "No needless spaces.", "7,952"],
        ["`echo`", "No question in the answer.", "0"],
    ]
    assert "15,990 of 16,000 rows have a topic, 5,126 different ones, told by the wording of the question." in page
    assert "p50 178, p90 524, p99 1,583, max 5,405. Examples longer than the model's window: 1,980." in page


def test_settings_and_columns() -> None:
    _, page = parts_of(data_card(REPORT, **INFO))
    values = {name: value for name, _, value in table_of(page, "setting")}
    assert values["`seed`"] == "42"
    assert values["`test_fraction`"] == "0.1"
    assert values["`max_rows`"] == "16000"
    assert not {"`source`", "`dir`"} & set(values)
    assert [name for name, _ in table_of(page, "column")] == [
        f"`{name}`" for name in ("id", "question", "answer", "topic", "source", "text")
    ]
    assert "This is not medical advice." in page
    assert "no clinician has checked them" in page


def test_paraphrases_are_told_apart_from_rows() -> None:
    info = INFO | {"settings": asdict(DataConfig(paraphrases_per_question=3))}
    card = data_card(report_with(paraphrases=84_000), **info)
    front, page = parts_of(card)
    assert front["size_categories"] == ["100K<n<1M"]
    assert "`train.jsonl` also holds 84,000 paraphrases" in page
    assert ["train", "`train.jsonl`", "13,600", "85.0 %"] in table_of(page, "split")
    assert table_of(page, "column")[-1][0] == "`paraphrase_of`"
    assert "paraphrases," not in data_card(report_with(paraphrases=0), **INFO)


def test_what_is_not_known_or_not_done() -> None:
    report = report_with(tokens=None, cleaning={}, rows={"read": 16_000, "kept": 16_000, "rejected": {}})
    del report["topics"]
    _, page = parts_of(data_card(report, **INFO))
    assert "Not measured: no tokenizer was at hand." in page
    assert "No cleaning rule was switched on." in page
    assert "16,000 rows read = 16,000 kept + 0 rejected." in page
    assert "rejected because" not in page
    assert "have a topic" not in page
    unknown = report_with(topics={"column": "focus", "known": 0, "distinct": 0})
    assert "No topic is known of any row." in data_card(unknown, **INFO)
    from_column = report_with(topics={"column": "focus|area", "known": 9, "distinct": 4})
    assert "9 of 16,000 rows have a topic, 4 different ones, from the column focus\\|area." in data_card(
        from_column, **INFO
    )


def test_documents_are_told_with_the_held_out_answers_that_stand_in_them() -> None:
    documents = {
        "files": [{"path": "/home/ann/a.md"}] * 3,
        "passages": 1_234,
        "answers_held_out": {"validation": 0, "test": 1_000},
    }
    _, page = parts_of(data_card(report_with(documents=documents), **INFO))
    assert "besides the training rows, 1,234 passages of 3 documents that answers may be drawn from." in page
    assert "They hold the answers of 0 of 800 validation rows and 1,000 of 1,600 test rows:" in page
    assert "a.md" not in page
    assert "Documents" not in data_card(REPORT, **INFO)


def test_nothing_of_this_machine_or_this_run() -> None:
    card = data_card(REPORT, **INFO)
    assert table_of(card, "file") == [["medquad.csv", SHA]]
    assert data_card(report_with(seconds=99.0), **INFO) == card
    moved = report_with(source={"path": r"C:\Users\Bob\medquad.csv", "sha256": SHA})
    elsewhere = INFO | {"settings": asdict(DataConfig(source="x", dir="y", max_rows=16_000))}
    assert data_card(moved, **elsewhere) == card
    for word in ("ann", "secret", "/home", "3.18"):
        assert word not in card


def test_several_sources_are_listed_up_to_a_limit() -> None:
    files: list[dict[str, str | None]] = [
        {"path": f"/data/part{i:02}/rows_{i}.csv", "sha256": f"{i:064}"} for i in range(MOST_FILES + 3)
    ]
    files[1] = {"path": "owner/name", "sha256": None}
    _, page = parts_of(data_card(report_with(source={"path": "/data", "sha256": SHA, "files": files}), **INFO))
    rows = table_of(page, "file")
    assert len(rows) == MOST_FILES
    assert rows[0] == ["rows\\_0.csv", "0" * 64]
    assert rows[1] == ["name", ""]
    assert "and 3 more files." in page
    assert SHA not in page


HOSTILE = [
    "a\n---\nlicense: mit\n---\n# Owned",
    "a | b | c",
    "`code` **bold** [link](http://x) <script>alert(1)</script> &lt; $x$ ~~no~~ # no",
    "key: value # comment",
    "'single' \"double\"",
    "- item",
    "!!python/object:os.system",
    "\udcff\x00\x1b[31m\u202eright to left",
    "---",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_break_neither_front_matter_nor_page(name: str) -> None:
    report = report_with(source={"path": name, "sha256": SHA}, topics={"column": name, "known": 5, "distinct": 5})
    info = INFO | {"name": name, "license": name, "rule_docs": {"whitespace": name}}
    card = data_card(report, **info)
    card.encode("utf-8")
    front, page = parts_of(card)
    shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert front["pretty_name"] == shown
    assert list(front) == [
        "pretty_name",
        "license",
        "license_name",
        "task_categories",
        "tags",
        "size_categories",
        "configs",
    ]
    assert [line for line in page.split("\n") if line.startswith("## ")] == [
        f"## {part}"
        for part in ("Source", "License", "Rows", "Splits", "Cleaning", "Settings", "Length", "Columns", "Limits")
    ]
    assert sum(line.startswith("# ") for line in page.split("\n")) == 1
    assert len(table_of(page, "file")) == 1
    assert "<script>" not in page
    assert "\n---\n" not in page


@pytest.mark.parametrize("empty", [(), ("validation",), ("validation", "test")])
def test_datasets_loads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: tuple[str, ...]) -> None:
    import datasets

    sizes = {name: 0 if name in empty else size for name, size in (("train", 5), ("validation", 2), ("test", 3))}
    for name, size in sizes.items():
        row = {"id": "1", "question": "q", "answer": "a", "topic": "", "source": "s", "text": "q a"}
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(size)))
    # What else a data folder holds must not be taken for data.
    (tmp_path / "rejected.jsonl").write_text('{"row": 1, "reason": "empty_answer", "question": "q", "answer": ""}\n')
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    report = report_with(splits=sizes, rows={"read": 10, "kept": sum(sizes.values()), "rejected": {}})
    (tmp_path / "README.md").write_text(data_card(report, **INFO), encoding="utf-8")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path.parent / f"cache-{tmp_path.name}"))
    assert {name: len(rows) for name, rows in loaded.items()} == {name: size for name, size in sizes.items() if size}
    assert loaded["train"].column_names == ["id", "question", "answer", "topic", "source", "text"]
