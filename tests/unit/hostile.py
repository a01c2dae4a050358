"""Hostile input for the doors that are not models: mutations of good input, each tried in a process of its own.

    python tests/unit/hostile.py DOOR SEED COUNT

prints one JSON list with the inputs that ended in a traceback, an abort, after a minute or with more than 2 GB.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECONDS, MEMORY = 60, 2 << 30
REFUSED, TRACEBACK = 0, 3

Rows = list[dict[str, str]]
ROWS: Rows = [
    {"question": "What is flu?", "answer": 'A viral infection,\nwith "fever" and 3.5 days of cough.', "topic": "flu"},
    {"question": "How to treat gout?", "answer": "Rest; drink 2 litres of water. Ménière – 中文.", "topic": "gout"},
    {"question": "What causes asthma?", "answer": "Allergens | cold air.", "topic": "asthma"},
]
ODD_TEXTS = [
    "",
    " ",
    "\0",
    "\ufeff",
    '"',
    "'",
    "\\",
    "\r",
    "\u2028",
    "\x1b[2J",
    "a" * 70_000,
    "[" * 20_000,
    '{"a":' * 5000,
]
NUMBERS = ["-1", "0", "1", "2147483648", "4294967295", "9223372036854775808", "1e400", "NaN", "9" * 400, "x", "1.5"]


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


# Mutations


def mutated_bytes(good: bytes, rng: random.Random) -> bytes:
    """Flip, cut, double, move or insert bytes."""
    content = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(content) + 1)
        size = rng.choice([1, 2, 8, 100, 1000])
        kind = rng.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[at : at + size]
        elif kind == 2:
            content[at:at] = content[at : at + size] * rng.choice([1, 2, 1000])
        elif kind == 3:
            content[at : at + size] = rng.randbytes(size)
        elif kind == 4:
            content[at:at] = rng.choice(ODD_TEXTS).encode()
        elif rng.random() < 0.3:
            del content[at:]
    return bytes(content)


def mutated_text(good: str, rng: random.Random) -> str:
    """Change numbers, cut, double or insert text, or make one piece of it very long."""
    text = good
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, size = rng.randrange(len(text) + 1), rng.choice([1, 5, 50, 500])
        kind = rng.randrange(8)
        digits = [place for place, letter in enumerate(text) if letter.isdigit()]
        if kind <= 1 and digits:
            place = rng.choice(digits)
            text = text[:place] + rng.choice(NUMBERS) + text[place + 1 :]
        elif kind == 2:
            text = text[:at] + text[at + size :]
        elif kind == 3:
            text = text[:at] + text[at : at + size] * rng.choice([2, 3, 2000]) + text[at + size :]
        elif kind == 4:
            text = text[:at] + rng.choice(ODD_TEXTS) + text[at:]
        elif kind == 5 and rng.random() < 0.1:
            text = text[:at] + rng.choice('a ,\n"<[') * 6_000_000 + text[at:]
        elif kind == 6:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[other : other + size] + text[at:]
        elif rng.random() < 0.3:
            text = text[:at]
    return text


def odd_value(rng: random.Random) -> Any:
    """Return a value of JSON that is seldom wanted."""
    return rng.choice([
        None, True, False, -1, 0, 1.5, 10**400, 2**63, -(2**31),
        float("nan"), float("inf"), float("-inf"), 1e308, 5e-324,
        "", " ", "\ud800", "\0", "x" * 100_000, "1", "null", "\x1b[31m", "\u202e",
        [], {}, [[]], [None], [1], ["a", 1], {"a": 1},
        [""] * 1000, nested(500), nested(20_000), "a b " * 20_000,
    ])  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def mutated_value(good: Any, rng: random.Random) -> Any:
    """Replace, drop, rename, double or nest something somewhere in a value of JSON."""
    value = json.loads(json.dumps(good))
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return odd_value(rng)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        holder, key = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError):  # an earlier change took it away
            kind = rng.randrange(8)
            if kind <= 4:
                holder[key] = odd_value(rng)
            elif kind == 5:
                del holder[key]
            elif kind == 6 and isinstance(holder, dict):
                holder[rng.choice(["", "\ud800", key.upper(), key + "x", "__class__"])] = holder.pop(key)
            elif isinstance(holder, list):
                holder.extend([holder[key]] * rng.choice([1, 50]))
            else:
                holder[key] = [holder[key]]
    return value


def _places(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def dumped(value: Any) -> str:
    """Return JSON, of values that are nested deeper than Python's writer goes too."""
    try:
        return json.dumps(value)
    except (RecursionError, ValueError):
        return '{"a": ' * 50_000 + "1" + "}" * 50_000


# Doors: each tries one input; whatever it raises but MedqaError is a fault


def config(rng: random.Random, folder: Path) -> None:
    from medqa_cli.config.keys import KEYS
    from medqa_cli.config.load import load

    good = GOOD_CONFIG
    path = folder / "medqa.yaml"
    overrides = []
    kind = rng.randrange(4)
    if kind == 0:
        path.write_bytes(mutated_bytes(good.encode(), rng))
    elif kind == 1:
        path.write_text(mutated_text(good, rng), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_text(good)
    if kind >= 2:
        for _ in range(rng.choice([1, 3])):
            value = dumped(odd_value(rng)) if rng.random() < 0.6 else mutated_text("[1, {a: b}, '2']", rng)
            overrides.append(f"{rng.choice([*KEYS, 'x', '', 'data', 'data.'])}={value}")
    if rng.random() < 0.05:
        name = rng.choice(["n" * 5000, "loop", "pipe", "", ".", "a\0b", "/dev/zero", "\udcff"])
        (folder / "loop").symlink_to("loop")
        os.mkfifo(folder / "pipe")
        path = folder / name if name and "\0" not in name else Path(name)
    load(path, overrides)


def data(rng: random.Random, folder: Path) -> None:
    _convert(_data_file(rng, folder), folder, rng)


def sheets(rng: random.Random, folder: Path) -> None:
    """The formats that a process of its own reads."""
    name = rng.choice(["qa.xlsx", "qa.ods", "qa.parquet", "qa.xls"])
    _convert(_written(name, rng, folder), folder, rng)


def _convert(path: Path, folder: Path, rng: random.Random) -> None:
    from medqa_cli.config.schema import DataConfig
    from medqa_cli.data import pipeline

    tools = pipeline.TextTools(lambda question, answer: f"{question} {answer}", None, 100)
    pipeline.convert([str(path)], DataConfig(), 1, tools, folder / "out")


def _data_file(rng: random.Random, folder: Path) -> Path:
    names = ["qa.csv", "qa.tsv", "qa.txt", "qa.json", "object.json", "qa.jsonl", "qa.xml", "qa.zip", "xml.zip"]
    names += ["qa.tar", "qa.tar.gz", "qa.csv.gz"]
    bombs = ["bomb.csv.gz", "bomb.zip"]  # seldom: each takes seconds to make
    return _written(rng.choice(bombs if rng.random() < 0.03 else names), rng, folder)


def _written(name: str, rng: random.Random, folder: Path) -> Path:
    path = folder / name
    good = _good_file(name, rng)
    whole = rng.random() < 0.4
    if "bomb" in name:
        path.write_bytes(good)
    elif name.endswith((".json", ".jsonl")) and rng.random() < 0.6:
        value = mutated_value(ROWS if "object" not in name else {"data": ROWS, "version": 1}, rng)
        lines = isinstance(value, list) and name.endswith("jsonl")
        path.write_text("\n".join(map(dumped, value)) if lines else dumped(value), errors="surrogatepass")
    elif zipfile.is_zipfile(io.BytesIO(good)) and not whole:
        path.write_bytes(_zip_with_a_mutated_part(good, rng))
    elif name.endswith((".csv.gz", ".tar.gz")) and not whole:
        path.write_bytes(gzip.compress(mutated_bytes(gzip.decompress(good), rng)))
    elif name.endswith((".csv", ".tsv", ".txt", ".xml")) and not whole:
        path.write_text(mutated_text(good.decode(), rng), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(mutated_bytes(good, rng))
    return path


def _zip_with_a_mutated_part(good: bytes, rng: random.Random) -> bytes:
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as target:
        chosen = rng.choice(source.namelist())
        for name in source.namelist():
            text = source.read(name).decode("utf-8", "replace")
            part = mutated_text(text, rng) if name == chosen else text
            target.writestr(name, part.encode("utf-8", "surrogatepass"))
    return changed.getvalue()


def _good_file(name: str, rng: random.Random) -> bytes:
    table = "question,answer,topic\n" + "".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row.values()) + "\n" for row in ROWS
    )
    if name.endswith((".csv", ".txt")):
        return table.encode()
    if name == "qa.tsv":
        return table.replace(",", "\t").encode()
    if name == "qa.xml":
        return XML.encode()
    if name.endswith(".json"):
        return json.dumps(ROWS if "object" not in name else {"data": ROWS}).encode()
    if name == "qa.jsonl":
        return "\n".join(map(json.dumps, ROWS)).encode()
    if name == "bomb.csv.gz":
        unit = rng.choice([b"a", b"\n", b"q,a\n", b'"', b"question,answer\n", b"\0", b","])
        return _bomb(table.encode(), unit * (1_000_000 // len(unit)), rng.choice([1, 20, 300]))
    if name == "bomb.zip":
        return _zipped({f"{number}.csv": table.encode() + b" " * 100_000_000 for number in range(rng.choice([1, 3]))})
    if name == "qa.csv.gz":
        return gzip.compress(table.encode())
    if name.startswith("qa.tar"):
        return _tarred(
            {"a/qa.csv": table.encode(), "b/other.csv": table.encode()}, "w:gz" if "gz" in name else "w", rng
        )
    if name == "qa.zip":
        return _zipped(
            {
                "a/qa.csv": table.encode(),
                "b/qa.json": json.dumps(ROWS).encode(),
                "c.csv.gz": gzip.compress(table.encode()),
            }
        )
    if name == "xml.zip":
        return _zipped({"a/1.xml": XML.encode(), "a/2.xml": XML.encode()})
    return _sheet(name)


def _bomb(start: bytes, block: bytes, blocks: int) -> bytes:
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1) as packed:
        packed.write(start)
        for _ in range(blocks):
            packed.write(block)
    return target.getvalue()


def _zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def _tarred(members: dict[str, bytes], mode: str, rng: random.Random) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.type = rng.choice(
                [tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, b"S", b"x", b"L"]
            )
            info.linkname = rng.choice(["", "/etc/passwd", name])
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def _sheet(name: str) -> bytes:
    from test_data_caps import hostile_ods, hostile_xlsx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        if name == "qa.parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        elif name == "qa.ods":
            hostile_ods(path, 'table:number-rows-repeated="2"', 'table:number-columns-repeated="2"')
        else:
            hostile_xlsx(path.with_suffix(".xlsx"), "B3", 'count="2" uniqueCount="2"')
            path = path.with_suffix(".xlsx")
        return path.read_bytes()


def samples(rng: random.Random, folder: Path) -> None:
    from medqa_cli.config.schema import EvalConfig
    from medqa_cli.evaluation.gate import check_gate, parse_conditions
    from medqa_cli.evaluation.output import rescore
    from medqa_cli.run_folder import RunFolder

    own: dict[str, Any] = {"nll_sum": 30.5, "answer_tokens": 12, "answer_bytes": 40, "truncated": False}
    own |= {"answer": "It is a viral infection of the airways.", "finish_reason": "stop", "generated_tokens": 9}
    good = [
        {"id": str(n), "topic": f"topic {n % 3}", "model": model, "question": f"What is topic {n % 3}?",
         "references": ["A viral infection.", "It is a cold."][: 1 + n % 2],
         "swap_reference": "Rest." if n % 2 else None, **own}
        for model in ("adapter", "base") for n in range(4)
    ]  # fmt: skip
    target = folder / "eval"
    target.mkdir()
    (target / "floors.jsonl").write_text("".join(json.dumps({**row, "model": "unigram"}) + "\n" for row in good[:4]))
    (target / "results.json").write_text(json.dumps({"split": "test", "settings": {}, "multiple_choice": {}}))
    name = "samples.jsonl" if rng.random() < 0.8 else "floors.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in good)
    if rng.random() < 0.7:
        changed = mutated_value(good, rng)
        text = "".join(dumped(row) + "\n" for row in changed) if isinstance(changed, list) else dumped(changed)
    elif rng.random() < 0.7:
        text = mutated_text(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.15:
        content = mutated_bytes(content, rng)
    for each in {name, "samples.jsonl"}:
        (target / each).write_bytes(
            content if each == name else "".join(json.dumps(row) + "\n" for row in good).encode()
        )
    if rng.random() < 0.1:
        results = {
            "split": "test",
            "settings": {"limit": None},
            "multiple_choice": {"a": {"items": 1, "models": {}, "floors": {}, "differences": {}}},
        }
        (target / "results.json").write_text(dumped(mutated_value(results, rng)), errors="surrogatepass")
    metrics = rng.choice(["all", ("nll", "rougeL"), ("nll", "bleu")])
    found = rescore(RunFolder(folder), EvalConfig(bootstrap_draws=100, metrics=metrics), 1, None)
    from medqa_cli.evaluation import report

    with contextlib.redirect_stdout(io.StringIO()):
        report.show(found, target / "results.json", target / "report.html")
    check_gate(parse_conditions(["adapter.nll > base.nll", "adapter.rougeL <= 1"]), found)


def served(rng: random.Random, folder: Path) -> None:
    from medqa_cli.config.schema import GenerateConfig
    from medqa_cli.evaluation.progress import Progress
    from medqa_cli.evaluation.samples import Sample, write_samples
    from medqa_cli.evaluation.served import connect, served_answers

    with contextlib.suppress(ImportError):
        from medqa_cli.evaluation import http_json

        http_json.SECONDS_TO_BEGIN, http_json.SECONDS_TO_END = 3.0, 1.0
    os.environ["no_proxy"] = "127.0.0.1"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(rng))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    model = connect(f"openai:http://127.0.0.1:{server.server_address[1]}/v1" + rng.choice(["", "#tiny"]), None)
    with Progress(folder, 1) as progress:
        answers = served_answers(model, ["What is flu?", "What is gout?"], GenerateConfig(), progress)
    write_samples(
        folder / "samples.jsonl",
        [Sample(f"{n}", "flu", "served", "q", ("r",), answer=answer.text) for n, answer in enumerate(answers)],
    )


def _handler(rng: random.Random) -> type[BaseHTTPRequestHandler]:
    completion = {
        "choices": [{"message": {"role": "assistant", "content": "It is a flu."}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 7},
    }
    good: dict[str, Any] = {"data": [{"id": "tiny"}]}
    kind = rng.randrange(12)
    value = mutated_value(rng.choice([completion, completion, good]), rng)
    first = kind != 11 or rng.random() < 0.5

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(dumped(value if kind == 11 and first else good))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._reply(dumped(value if kind < 6 else completion), hostile=True)

        def _reply(self, text: str, hostile: bool = False) -> None:
            body = text.encode("utf-8", "surrogatepass")
            if not hostile or kind < 5:
                self._head(200, len(body))
                self.wfile.write(body)
            elif kind == 5:
                self._head(
                    rng.choice([200, 204, 301, 401, 404, 429, 500, 503, 999]), rng.choice([len(body), 0, 10**15, -1])
                )
                self.wfile.write(body[: rng.randrange(len(body) + 1)])
                self.connection.close()
            elif kind == 6:
                self.wfile.write(mutated_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", rng))
                self.connection.close()
            elif kind == 7:
                self.send_response(rng.choice([200, 500]))
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(
                    rng.choice([b"zz\r\n", b"5\r\nab", b"-5\r\n", b"ffffffffff\r\n", b"5\r\nhello\r\n" * 3])
                )
                self.connection.close()
            elif kind == 8:
                self._head(200, 4 << 30)
                with contextlib.suppress(OSError):
                    for _ in range(rng.choice([20, 300])):
                        self.wfile.write(b" " * (1 << 20))
            elif kind == 9:
                with contextlib.suppress(OSError):
                    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900:
                        self.wfile.write(bytes([byte]))
                        time.sleep(0.2)
            elif kind == 10:
                self.send_response(rng.choice([301, 302, 307]))
                self.send_header(
                    "Location",
                    rng.choice(
                        [
                            "http://127.0.0.1:9/x",
                            "file:///etc/passwd",
                            "",
                            "//",
                            "ftp://a",
                            self.path,
                            "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
                        ]
                    ),
                )
                self.end_headers()

        def _head(self, code: int, length: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


DOORS: dict[str, Callable[[random.Random, Path], None]] = {
    each.__name__: each for each in (config, data, sheets, samples, served)
}


WARM = {
    "config": ["medqa_cli.config"],
    "data": ["medqa_cli.data.pipeline"],
    "sheets": ["medqa_cli.data.pipeline", "pyarrow.parquet", "test_data_caps"],
    "samples": ["medqa_cli.evaluation.output", "medqa_cli.evaluation.report", "medqa_cli.evaluation.gate", "sacrebleu"],
    "served": ["medqa_cli.evaluation.served", "medqa_cli.evaluation.samples"],
}


def attack(door: str, seed: int, count: int) -> list[list[Any]]:
    """Try so many inputs; return number and fault of each that did not end as it should."""
    # Imported once, before the forks.
    for name in WARM[door]:
        importlib.import_module(name)
    found = []
    for number in range(count):
        if fault := _try(DOORS[door], f"{seed}-{door}-{number}"):
            found.append([number, fault])
    return found


def _try(door: Callable[[random.Random, Path], None], seed: str) -> str:
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    started = time.monotonic()
    child = os.fork()
    if not child:
        _in_child(door, seed, folder)
    status, usage = 0, None
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done or time.monotonic() - started > SECONDS:
            break
        time.sleep(0.005)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.wait4(child, 0)
    said = (folder / "said").read_text(errors="replace").strip().splitlines() if (folder / "said").exists() else []
    shutil.rmtree(folder, ignore_errors=True)
    if os.environ.get("HOSTILE_TIMES") and time.monotonic() - started > 3:
        print(seed, round(time.monotonic() - started, 1), usage and usage.ru_maxrss >> 10, file=sys.stderr, flush=True)
    if not done:
        return f"no end within {SECONDS} s"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return signal.Signals(-code).name
    if code == TRACEBACK:
        return "traceback: " + " | ".join(said[-3:])[-400:]
    if usage is not None and usage.ru_maxrss * 1024 > MEMORY:
        return f"{usage.ru_maxrss >> 10} MiB"
    return ""


def _in_child(door: Callable[[random.Random, Path], None], seed: str, folder: Path) -> None:
    from medqa_cli.errors import MedqaError

    code = TRACEBACK
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (2 * MEMORY, 2 * MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        door(random.Random(seed), folder)
        code = REFUSED
    except MedqaError:
        code = REFUSED
    except BaseException:
        with contextlib.suppress(BaseException):
            (folder / "said").write_text(traceback.format_exc(), errors="replace")
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    print(json.dumps(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
