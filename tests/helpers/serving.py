"""A server in this process, without a socket: the application, its model and its data."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from medqa_cli.answering.ask import AskOptions
from medqa_cli.config.schema import Config
from medqa_cli.model.gguf_model import LlamaModel
from medqa_cli.model.load import LoadedModel
from medqa_cli.serving.app import Server
from medqa_cli.serving.prometheus import Metrics
from medqa_cli.serving.service import Service

NAME = "tiny"


@contextlib.contextmanager
def serving(
    config: Config, answerer: LoadedModel | LlamaModel, options: AskOptions | None = None, **how: Any
) -> Iterator[TestClient]:
    """Yield a client of a server; ``how``: further arguments of ``Server``."""
    service = Service(config, "base", answerer, options or AskOptions())
    server = Server(service, config, NAME, Metrics(), **how)
    try:
        with TestClient(server.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client
    finally:
        service.close()


def chat(question: str, **more: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": question}], **more}


def events_of(text: str) -> list[dict[str, Any]]:
    """The objects of a stream; it ends as OpenAI's does."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def write_rows(folder: Path, rows: list[tuple[str, str, str, str]]) -> None:
    """Write a training split of (id, question, answer, topic)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": i, "question": q, "answer": a, "topic": t, "source": "here"}) for i, q, a, t in rows]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
