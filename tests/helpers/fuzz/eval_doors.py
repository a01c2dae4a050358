"""Doors of evaluation: the files that ``--rescore`` reads, and the answers of a served model."""

import contextlib
import io
import json
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.fuzz.driver import Door
from helpers.fuzz.mutations import change_bytes, change_text, change_value, dumped

ANSWER = "It is a viral infection of the airways."
OWN: dict[str, Any] = {"nll_sum": 30.5, "answer_tokens": 12, "answer_bytes": 40, "truncated": False}
OWN |= {"answer": ANSWER, "finish_reason": "stop", "generated_tokens": 9}
SAMPLES = [
    {"id": str(n), "topic": f"topic {n % 3}", "model": model, "question": f"What is topic {n % 3}?",
     "references": ["A viral infection.", "It is a cold."][: 1 + n % 2],
     "swap_reference": "Rest." if n % 2 else None, **OWN}
    for model in ("adapter", "base") for n in range(4)
]  # fmt: skip
CHOICES = {"a": {"items": 1, "models": {}, "floors": {}, "differences": {}}}
RESULTS = {"split": "test", "settings": {"limit": None}, "multiple_choice": {}}
COMPLETION = {
    "choices": [{"message": {"role": "assistant", "content": "It is a flu."}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 7},
}
MODELS = {"data": [{"id": "tiny"}]}
LOCATIONS = ["http://127.0.0.1:9/x", "file:///etc/passwd", "", "//", "ftp://a", "/v1", "\xed\xa0\x80"]
CHUNKS = [b"zz\r\n", b"5\r\nab", b"-5\r\n", b"ffffffffff\r\n", b"5\r\nhello\r\n" * 3]


def as_lines(rows: Any) -> str:
    return "".join(dumped(row) + "\n" for row in rows) if isinstance(rows, list) else dumped(rows)


def samples(rng: random.Random, folder: Path) -> None:
    target = folder / "eval"
    target.mkdir()
    (target / "samples.jsonl").write_text(as_lines(SAMPLES))
    (target / "floors.jsonl").write_text(as_lines([{**row, "model": "unigram"} for row in SAMPLES[:4]]))
    (target / "results.json").write_text(json.dumps(RESULTS))
    kind = rng.random()
    text = as_lines(change_value(SAMPLES, rng)) if kind < 0.7 else as_lines(SAMPLES)
    content = (change_text(text, rng) if 0.7 < kind < 0.9 else text).encode("utf-8", "surrogatepass")
    name = "samples.jsonl" if rng.random() < 0.8 else "floors.jsonl"
    (target / name).write_bytes(change_bytes(content, rng) if rng.random() < 0.15 else content)
    if rng.random() < 0.1:
        changed = change_value({**RESULTS, "multiple_choice": CHOICES}, rng)
        (target / "results.json").write_text(dumped(changed), errors="surrogatepass")
    rescore_and_show(folder, rng.choice(["all", ("nll", "rougeL"), ("nll", "bleu")]))


def rescore_and_show(folder: Path, metrics: Any) -> None:
    from medqa_cli.config.schema import Config, EvalConfig
    from medqa_cli.evaluation import report
    from medqa_cli.evaluation.gate import check_gate, parse_conditions
    from medqa_cli.evaluation.rescore import rescore

    found = rescore(Config(run_dir=str(folder), seed=1, eval=EvalConfig(bootstrap_draws=100, metrics=metrics)), None)
    with contextlib.redirect_stdout(io.StringIO()):
        report.show(found, folder / "eval/results.json", folder / "eval/report.html")
    check_gate(parse_conditions(["adapter.nll > base.nll", "adapter.rougeL > 1"]), found)


def served(rng: random.Random, folder: Path) -> None:
    from medqa_cli.config.schema import GenerateConfig
    from medqa_cli.evaluation import openai_client
    from medqa_cli.evaluation.openai_client import connect, served_answers
    from medqa_cli.evaluation.samples import Sample, write_samples
    from medqa_cli.journal import SharedJournal

    openai_client.SECONDS_TO_BEGIN, openai_client.SECONDS_TO_END = 1.0, 0.3
    os.environ["no_proxy"] = "127.0.0.1"
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(rng))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        model = connect(f"openai:http://127.0.0.1:{server.server_address[1]}/v1" + rng.choice(["", "#tiny"]), None)
        with SharedJournal(folder, 1) as journal:
            answers = served_answers(model, ["What is flu?", "What is gout?"], GenerateConfig(), journal)
    finally:
        server.shutdown()
        server.socket.close()
    answered = [Sample(f"{n}", "flu", "served", "q", ("r",), answer=answer.text) for n, answer in enumerate(answers)]
    write_samples(folder / "samples.jsonl", answered)


def handler(rng: random.Random) -> type[BaseHTTPRequestHandler]:
    """A server that answers with a changed value, or in a way that HTTP does not know."""
    value = change_value(rng.choice([COMPLETION, COMPLETION, MODELS]), rng)
    way = rng.choice(["value"] * 5 + ["status", "bytes", "chunks", "endless", "slow", "elsewhere", "models"])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(dumped(value if way == "models" else MODELS))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(OSError):  # the client has gone
                getattr(self, way)()

        def value(self) -> None:
            self.send(dumped(value))

        def models(self) -> None:
            self.send(dumped(COMPLETION))

        def status(self) -> None:
            body = dumped(value).encode("utf-8", "surrogatepass")
            self.head(
                rng.choice([200, 204, 301, 401, 404, 429, 500, 503, 999]),
                {"Content-Length": rng.choice([len(body), 0, 10**15, -1])},
            )
            self.wfile.write(body[: rng.randrange(len(body) + 1)])
            self.connection.close()

        def bytes(self) -> None:
            self.wfile.write(change_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", rng))
            self.connection.close()

        def chunks(self) -> None:
            self.head(rng.choice([200, 500]), {"Transfer-Encoding": "chunked"})
            self.wfile.write(rng.choice(CHUNKS))
            self.connection.close()

        def endless(self) -> None:
            self.head(200, {"Content-Length": 4 << 30})
            for _ in range(rng.choice([20, 300])):
                self.wfile.write(b" " * (1 << 20))

        def slow(self) -> None:
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900:
                self.wfile.write(byte.to_bytes())
                time.sleep(0.05)

        def elsewhere(self) -> None:
            self.head(rng.choice([301, 302, 307]), {"Location": rng.choice(LOCATIONS)})

        def send(self, text: str) -> None:
            body = text.encode("utf-8", "surrogatepass")
            self.head(200, {"Content-Length": len(body)})
            self.wfile.write(body)

        def head(self, code: int, headers: dict[str, Any]) -> None:
            self.send_response(code)
            for name, content in headers.items():
                self.send_header(name, str(content))
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def warm() -> None:
    """Import what the doors import."""
    import sacrebleu  # noqa: F401

    from medqa_cli.evaluation import gate, openai_client, report, rescore, samples  # noqa: F401


DOORS = {"samples": Door(samples, warm), "served": Door(served, warm)}
