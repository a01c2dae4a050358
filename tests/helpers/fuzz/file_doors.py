"""Doors of files that users bring: medqa.yaml and --set, tables and archives, and the formats of other libraries."""

import functools
import gzip
import io
import json
import os
import random
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from helpers.fuzz.driver import Door
from helpers.fuzz.mutations import change_bytes, change_text, change_value, dumped, odd_value
from helpers.pdfs import write_pdf
from helpers.spreadsheets import hostile_ods, hostile_xlsx

ROWS = [
    {"question": "What is flu?", "answer": 'A viral infection,\nwith "fever" and 3.5 days of cough.', "topic": "flu"},
    {"question": "How to treat gout?", "answer": "Rest; drink 2 litres of water. Ménière – 中文.", "topic": "gout"},
    {"question": "What causes asthma?", "answer": "Allergens | cold air.", "topic": "asthma"},
]
GOOD_CONFIG = """seed: 42
run_dir: runs/x
data:
  source: a.csv
  cleaning: {whitespace: false}
  test_fraction: 0.1
model:
  name_or_path: x/y
lora:
  r: 64
  target_modules: [q_proj, v_proj]
train:
  learning_rate: 2e-4
eval:
  multiple_choice: [{name: a, path: b.json}]
  metrics: [nll]
"""
XML = (
    '<?xml version="1.0"?><Document id="1" source="NIH"><Focus>flu</Focus><QAPairs><QAPair pid="1">'
    '<Question qid="1" qtype="information">What is flu?</Question><Answer>An infection.</Answer>'
    "</QAPair></QAPairs></Document>"
)


TABLE = "question,answer,topic\n" + "".join(
    ",".join('"' + cell.replace('"', '""') + '"' for cell in row.values()) + "\n" for row in ROWS
)
DATA_FILES = ["qa.csv", "qa.tsv", "qa.txt", "qa.json", "object.json", "qa.jsonl", "qa.xml", "qa.zip", "xml.zip"]
DATA_FILES += ["qa.tar", "qa.tar.gz", "qa.csv.gz"]
BOMBS = ["bomb.csv.gz", "bomb.zip"]  # seldom: each takes seconds to make
DOCUMENTS = ["a.md", "a.txt", "a.html", "plain.pdf", "plain.pdf", "packed.pdf", "packed.pdf", "qa.json"]
MARKDOWN = """---
title: Gout
---
# Living with *gout*

It hurts, and **how**. See [here](a.html) & <b>there</b>.

## Food
- beer
  and wine
1. liver

| drug | dose |
|---|---|
| A | 1 |

```
# code
```
"""
PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>Gout</title><style>p {}</style></head><body>
<nav>Menu</nav><main><h1>Living with gout</h1><p>It hurts, and <b>how</b>&hellip;</p><h2>Food</h2><ol><li>beer<li>liver
</ol><table><tr><th>drug<td>dose</table><p>10<sup>9</sup> &lt; 5<br>more</p></main></body></html>
"""
SHEETS = ["qa.xlsx", "qa.ods", "qa.parquet", "qa.xls"]


def settings(rng: random.Random, folder: Path) -> None:
    from medqa_cli.config.load import load
    from medqa_cli.config.schema import KEYS

    path = folder / "medqa.yaml"
    overrides = []
    kind = rng.randrange(4)
    if kind == 0:
        path.write_bytes(change_bytes(GOOD_CONFIG.encode(), rng))
    elif kind == 1:
        path.write_text(change_text(GOOD_CONFIG, rng), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_text(GOOD_CONFIG)
        for _ in range(rng.choice([1, 3])):
            value = dumped(odd_value(rng)) if rng.random() < 0.6 else change_text("[1, {a: b}, '2']", rng)
            overrides.append(f"{rng.choice([*KEYS, 'x', '', 'data', 'data.'])}={value}")
    if rng.random() < 0.05:
        name = rng.choice(["n" * 5000, "loop", "pipe", "", ".", "a\0b", "/dev/zero", "\udcff"])
        (folder / "loop").symlink_to("loop")
        os.mkfifo(folder / "pipe")
        path = folder / name if name and "\0" not in name else Path(name)
    load(path, overrides)


def data(rng: random.Random, folder: Path) -> None:
    convert(changed_file(rng.choice(BOMBS if rng.random() < 0.03 else DATA_FILES), rng, folder))


def sheets(rng: random.Random, folder: Path) -> None:
    """The formats that a process of its own reads."""
    # Too few rows for splits.
    convert(changed_file(rng.choice(SHEETS), rng, folder), validation_fraction=0.0, test_fraction=0.0)


def documents(rng: random.Random, folder: Path) -> None:
    """Documents of each kind; what comes out can be written to the index, and each passage has its own id."""
    from medqa_cli.config.schema import DataConfig
    from medqa_cli.data.convert import column_names
    from medqa_cli.data.documents.finding import find_documents
    from medqa_cli.data.documents.passages import read_documents
    from medqa_cli.data.retrieval import write_index

    name = rng.choice(DOCUMENTS)
    path, good = folder / name, good_document(name)
    if name == "qa.json":
        path = changed_file(name, rng, folder)
    elif name.endswith(".pdf") or rng.random() < 0.4:
        path.write_bytes(change_bytes(good, rng))
    else:
        path.write_text(change_text(good.decode(), rng), encoding="utf-8", errors="surrogatepass")
    data = DataConfig(documents=str(path), max_reader_seconds=5.0)
    found = read_documents(find_documents(data.documents, folder / "out", []), data, column_names(data))
    assert write_index(folder / "index.sqlite", found.passages) == len({passage.id for passage in found.passages}) > 0
    assert all(passage.text and passage.title and passage.place for passage in found.passages)
    assert len("".join(found.texts)) <= 40 * len(path.read_bytes()) + 1000


@functools.cache
def good_document(name: str) -> bytes:
    if name == "qa.json":
        return good_file(name)
    if not name.endswith(".pdf"):
        return PAGE.encode() if name == "a.html" else MARKDOWN.encode()
    with tempfile.TemporaryDirectory() as folder:
        lines = [row["answer"].replace("中文", "") for row in ROWS]
        return write_pdf(Path(folder, name), [lines, lines], "Gout", packed=name.startswith("packed")).read_bytes()


def convert(path: Path, **settings: Any) -> None:
    from medqa_cli.config.schema import DataConfig
    from medqa_cli.data import convert as conversion

    render = "{} {}".format
    conversion.convert([str(path)], DataConfig(**settings), 1, render, None, path.parent / "out")


def changed_file(name: str, rng: random.Random, folder: Path) -> Path:
    """Write a file of this name, changed: its bytes, or the text inside."""
    path = folder / name
    if name in BOMBS:
        path.write_bytes(bomb(name, rng))
        return path
    good = tarred(name, rng) if name.startswith("qa.tar") else good_file(name)
    if rng.random() < 0.4:
        path.write_bytes(change_bytes(good, rng))
    elif name.endswith((".json", ".jsonl")):
        value = change_value(json.loads(good) if name.endswith(".json") else ROWS, rng)
        lines = isinstance(value, list) and name.endswith("jsonl")
        path.write_text("\n".join(map(dumped, value)) if lines else dumped(value), errors="surrogatepass")
    elif zipfile.is_zipfile(io.BytesIO(good)):
        path.write_bytes(zip_with_a_changed_part(good, rng))
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(change_bytes(gzip.decompress(good), rng)))
    elif name.endswith((".csv", ".tsv", ".txt", ".xml")):
        path.write_text(change_text(good.decode(), rng), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(change_bytes(good, rng))
    return path


@functools.cache
def good_file(name: str) -> bytes:
    table, rows, xml = TABLE.encode(), json.dumps(ROWS).encode(), XML.encode()
    files = {
        "qa.csv": table,
        "qa.txt": table,
        "qa.tsv": table.replace(b",", b"\t"),
        "qa.json": rows,
        "object.json": json.dumps({"data": ROWS, "version": 1}).encode(),
        "qa.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
        "qa.xml": xml,
        "qa.csv.gz": gzip.compress(table),
        "qa.zip": zipped({"a/qa.csv": table, "b/qa.json": rows, "c.csv.gz": gzip.compress(table)}),
        "xml.zip": zipped({"a/1.xml": xml, "a/2.xml": xml}),
    }
    return files[name] if name in files else sheet(name)


def sheet(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        if name == "qa.parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        elif name == "qa.ods":
            hostile_ods(path, 'table:number-rows-repeated="2"', 'table:number-columns-repeated="2"')
        else:
            hostile_xlsx(path, "B3", 'count="2" uniqueCount="2"')
        return path.read_bytes()


def zip_with_a_changed_part(good: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(good)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    chosen = rng.choice(list(members))
    changed = change_text(members[chosen].decode("utf-8", "replace"), rng)
    return zipped(members | {chosen: changed.encode("utf-8", "surrogatepass")})


def zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def tarred(name: str, rng: random.Random) -> bytes:
    """Two tables, each of which may claim to be a link, a device or a header."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz" if name.endswith(".gz") else "w") as archive:
        for member in ("a/qa.csv", "b/other.csv"):
            info = tarfile.TarInfo(member)
            info.size = len(TABLE.encode())
            odd = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, b"S", b"x", b"L"]
            info.type = rng.choice([tarfile.REGTYPE] * 6 + odd)
            info.linkname = rng.choice(["", "/etc/passwd", member])
            archive.addfile(info, io.BytesIO(TABLE.encode()))
    return target.getvalue()


def bomb(name: str, rng: random.Random) -> bytes:
    """A small file that expands to as much as 100 MB."""
    if name == "bomb.zip":
        return zipped({"qa.csv": TABLE.encode() + b" " * 100_000_000})
    unit = rng.choice([b"a", b"\n", b"q,a\n", b'"', b"question,answer\n", b"\0", b","])
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1) as packed:
        packed.write(TABLE.encode())
        for _ in range(rng.choice([1, 20, 100])):
            packed.write(unit * (1_000_000 // len(unit)))
    return target.getvalue()


def warm() -> None:
    """Import what the doors do, and make the good files."""
    from medqa_cli.config.load import load
    from medqa_cli.data import convert as conversion  # noqa: F401

    load(None, ["seed=1"])  # with an override pydantic is imported, and the types are made

    for name in [*DATA_FILES, *SHEETS]:
        if not name.startswith("qa.tar"):
            good_file(name)
    for name in DOCUMENTS:
        good_document(name)


DOORS = {each.__name__: Door(each, warm) for each in (settings, data, sheets, documents)}
