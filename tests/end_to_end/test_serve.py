"""``medqa serve`` as a process: programs that speak OpenAI's API, the end by a signal, connections that misbehave."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from helpers.commands import Outcome, fails, run_in
from helpers.serving import events_of

Medqa = Callable[..., Outcome]
ROWS = [f"What is disease {n}?,Disease {n} is number {n * 7} of the diseases." for n in range(40)]
CONFIG = """\
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.3}}
run_dir: run
prompt: {{template: chat}}
model: {{name_or_path: {model}, quantization: none, compute_dtype: float32, max_length: 256}}
lora: {{r: 4, target_modules: all-linear}}
train: {{max_steps: 1, gradient_checkpointing: false, optim: adamw_torch}}
generate: {{max_new_tokens: 60, engine: transformers}}
eval: {{bootstrap_draws: 100, metrics: [rougeL, loop_rate, finished_rate]}}
"""


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        command = [sys.executable, "-m", "medqa_cli", "serve", "--port", "0", *words]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(f"it ended with {self.process.wait()}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def post(self, body: Any, path: str = "/v1/chat/completions", timeout: float = 120) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()

    def end(self) -> tuple[int, str]:
        """End it by SIGTERM; return its exit code and what it said since it began to listen."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        return self.process.wait(60), said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, talking_model_dir: Path) -> Path:
    made = tmp_path_factory.mktemp("served")
    (made / "medqa.yaml").write_text(CONFIG.format(model=talking_model_dir), encoding="utf-8")
    (made / "qa.csv").write_text("question,answer\n" + "\n".join(ROWS) + "\n", encoding="utf-8")
    run_in(made, "convert")
    run_in(made, "train")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    # Long answers, of which several are under way when the signal comes; the other tests say how long theirs may be.
    served = Served(folder, "--set", "generate.max_new_tokens=400", "--set", "generate.loop_retries=40")
    yield served
    if served.process.poll() is None:
        served.end()


def body(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "run-adapter", "messages": [{"role": "user", "content": question}], **more}


def test_the_openai_package_asks_and_streams(server: Served) -> None:
    client: Any = openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)
    (listed,) = client.models.list().data
    asked = {"model": listed.id, "messages": [{"role": "user", "content": "What is gout?"}], "max_tokens": 60}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text) > 10
    assert whole.choices[0].message.content == text
    assert chunks[-1].usage == whole.usage
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(**{**asked, "model": "other"})
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(**asked, tools=[{"type": "function", "function": {"name": "x"}}])


def test_eval_of_the_server_gives_the_figures_of_the_model(
    server: Served, folder: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    figures = {}
    for name, model in (("adapter", "adapter"), ("served", f"openai:{server.url}")):
        outcome = medqa("eval", "--model", model, "--json")
        assert outcome.code == 0, outcome.err
        figures[name] = json.loads(outcome.out)["models"][name]
    shared = figures["adapter"].keys() & figures["served"].keys()
    assert {"rougeL", "loop_rate", "finished_rate"} <= shared
    assert {key: figures["served"][key] for key in shared} == {key: figures["adapter"][key] for key in shared}


def test_bytes_that_are_no_request_and_silent_connections_end_in_order(server: Served) -> None:
    port = server.port
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    silent[0].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n")
    silent[1].sendall(b"GET /healthz HTTP/1.1\r\nHo")
    sent = {
        b"\x16\x03\x01\x02\x00\x01\x00": b"400",
        b"GET\r\n\r\n": b"400",
        b"GET / HTTP/1.1\r\n\r\n": b"400",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000: b"400",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n": b"400",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n": b"200",
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n": b"400",
    }
    for request, status in sent.items():
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request)
            assert connection.recv(12) == b"HTTP/1.1 " + status, request[:60]
    # A caller who leaves in the middle of an answer.
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        content = json.dumps(body("What is gout?", stream=True, max_tokens=60)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        assert connection.recv(8) == b"HTTP/1.1"
    assert server.post(body("What is gout?", max_tokens=60))[0] == 200
    for one in silent:
        one.close()


def test_a_signal_lets_every_answer_under_way_end(server: Served) -> None:
    """The last test of this server."""
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(server.post, body(f"What is disease {n}?", stream=n % 2 == 0)) for n in range(8)]
        deadline = time.monotonic() + 60
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while time.monotonic() < deadline:
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
            under_way = re.search(r"^medqa_requests_under_way (\d+)", metrics, re.MULTILINE)
            if under_way is not None and int(under_way[1]) > 4:
                break
        assert under_way is not None
        assert int(under_way[1]) > 4
        code, said = server.end()
        answers = [stream.result() for stream in streams]
    assert (code, "Traceback" in said) == (0, False)
    assert [status for status, _ in answers] == [200] * 8
    for number, (_, text) in enumerate(answers):
        if number % 2:
            found = json.loads(text)["choices"][0]["message"]["content"]
        else:
            found = "".join(event["choices"][0]["delta"].get("content", "") for event in events_of(text))
        assert len(found) > 20
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_what_cannot_be_served_is_said_before_anything_is_loaded(
    folder: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MEDQA_SERVE_KEY", raising=False)
    fails(medqa("serve", "--model", "base", "--host", "0.0.0.0"), 2, "MEDQA_SERVE_KEY is not set", "openssl rand")
    for name, said in (("missing/wrong.json", "no folder missing"), ("wrong.jsonl", "name it wrong.json")):
        fails(medqa("serve", "--model", "base", "--feedback", name, "--port", "0"), 2, name, said)
    fails(medqa("serve", "--set", "run_dir=other"), 2, "nothing has been trained")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        fails(medqa("serve", "--model", "base", "--port", port), 2, f"port {port}", "or name another: --port ")
