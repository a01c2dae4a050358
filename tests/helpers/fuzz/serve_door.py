"""The door of ``medqa serve``: a real server on the loopback gets changed requests, cut ones and other bytes.

An answer of 200 counts as loaded, any of 400 to 499 as refused; a 500, no answer, a traceback or a server that does not
answer a right request is a fault. One in ten is followed by a right one; a server that has ended is found by the next.
"""

import contextlib
import functools
import io
import json
import random
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from helpers.fuzz.driver import Door
from helpers.fuzz.mutations import change_bytes, change_text, change_value, dumped

CHAT = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is gout?"},
        {"role": "assistant", "content": "A disease."},
        {"role": "user", "content": [{"type": "text", "text": "Who gets it?"}]},
    ],
    "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3, "temperature": 0.5, "top_p": 0.9,
    "stop": ["never"], "n": 1, "seed": 3, "medqa": {"content": "answer", "anyway": True},
}  # fmt: skip
COMPLETION = {"model": "tiny", "prompt": "What is gout?", "max_tokens": 3, "stop": "x", "echo": False}
FEEDBACK = {
    "question": "What is gout?", "answer": "A disease.", "verdict": "wrong", "remark": "no", "correction": "Ask.",
    "finish_reason": "stop",
}  # fmt: skip
PATHS = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETION, "/feedback": FEEDBACK}
HEADERS = [
    "Host: evil.example", "Host: 127.0.0.1:1", "Host:", "Origin: null", "Origin: http://127.0.0.1",
    "Expect: 100-continue",
    "Content-Type: text/plain", "Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999999",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: websocket",
    "Authorization: Bearer \xff\xfe", "X: " + "x" * 9000, "Cookie: " + "a=b; " * 500, "Sec-Fetch-Site: cross-site",
]  # fmt: skip
SECONDS, RIGHT = 20.0, 0.1


@functools.cache
def server() -> int:
    """Start a server in this process; return its port."""
    import uvicorn

    from helpers.answerers import make_answerer
    from helpers.models import make_chatml_tokenizer
    from medqa_cli.answering.ask import AskOptions
    from medqa_cli.config.schema import Config, GenerateConfig, ServeConfig
    from medqa_cli.serving import app as application
    from medqa_cli.serving import run
    from medqa_cli.serving.app import Server
    from medqa_cli.serving.feedback import Feedback
    from medqa_cli.serving.prometheus import Metrics
    from medqa_cli.serving.service import Service

    application.SECONDS_FOR_A_BODY = run.SECONDS_FOR_HEADERS = 0.3  # for those that promise more than they send
    config = Config(generate=GenerateConfig(max_new_tokens=3), serve=ServeConfig(max_body_bytes=50_000))
    answerer = make_answerer(make_chatml_tokenizer(), [300, 301])
    service = Service(config, "base", answerer, AskOptions())
    reports = Path(tempfile.mkdtemp()) / "wrong.json"
    feedback = Feedback(reports, "tiny", answerer.encoder.contract)
    app = Server(service, config, "tiny", Metrics(), feedback=feedback).app
    listening = run.listen("127.0.0.1", 0)
    settings = uvicorn.Config(
        app, log_config=None, lifespan="off", http=run.Protocol, h11_max_incomplete_event_size=16 << 10
    )
    threading.Thread(target=uvicorn.Server(settings).run, kwargs={"sockets": [listening]}, daemon=True).start()
    return int(listening.getsockname()[1])


def requests(rng: random.Random, folder: Path) -> None:
    from medqa_cli.errors import InputError

    port, said = server(), io.StringIO()
    with contextlib.redirect_stderr(said):
        status = send(port, make(rng), rng)
        if rng.random() < RIGHT:
            right = send(port, request("/v1/completions", json.dumps(COMPLETION).encode(), []), None)
            assert right == 200, f"the next request got {right}"
    assert "Traceback" not in said.getvalue(), said.getvalue()[-300:]
    if status is None or 400 <= status < 500:
        raise InputError(f"status {status}", "")
    assert 200 <= status < 400, f"status {status}"


def make(rng: random.Random) -> bytes:
    """A request that is changed in its body, its headers or its bytes."""
    path = rng.choice(list(PATHS))
    body = PATHS[path]
    kind = rng.random()
    text = dumped(change_value(body, rng)) if kind < 0.6 else dumped(body)
    if 0.6 < kind < 0.7:
        text = change_text(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    if 0.7 < kind < 0.75:
        content = b" " * rng.choice([10_000, 49_000, 60_000, 3_000_000]) + content
    headers = [rng.choice(HEADERS) for _ in range(rng.randint(1, 2))] if 0.75 < kind < 0.9 else []
    made = request(path, content, headers, rng.choice(["POST"] * 6 + ["GET", "PUT", "HEAD", "OPTIONS"]))
    return change_bytes(made, rng) if kind > 0.9 else made


def request(path: str, content: bytes, headers: list[str], method: str = "POST") -> bytes:
    own = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(content))}
    for header in headers:
        own.pop(header.partition(":")[0], None)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own.items()), *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + content


def send(port: int, content: bytes, rng: random.Random | None) -> int | None:
    """Send bytes, all at once, in pieces or cut off; return the status, None where the caller left before it."""
    cut = rng is not None and rng.random() < 0.1
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            if cut:
                assert rng is not None
                connection.sendall(content[: rng.randrange(len(content) + 1)])
                return None
            connection.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has said no already
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 16):
                answer += piece
    if answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    if not answer:
        return None  # bytes that are no request may end without a word
    found: Any = answer.split(b" ", 2)
    return int(found[1]) if len(found) > 1 and found[1].isdigit() else 500


def warm() -> None:
    """Import what the server imports; it starts in the child that tries the inputs."""
    import uvicorn.protocols.http.h11_impl  # noqa: F401

    from helpers import answerers  # noqa: F401
    from medqa_cli.serving import app, run  # noqa: F401

    assert "torch" in sys.modules


DOORS = {"requests": Door(requests, warm)}
