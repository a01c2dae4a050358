"""Answers of a model that a server offers by OpenAI's protocol: vLLM, llama.cpp, Ollama and others.

Answers only: likelihoods of given texts are not part of the protocol. The server renders the prompt by its own chat
template. Nothing is sent anywhere but to the address that was named, the questions of the split among it; a key only
where the environment variable ``MEDQA_API_KEY`` holds one.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from medqa_cli import console
from medqa_cli.config.sections import GenerateConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation.generation import GeneratedAnswer
from medqa_cli.evaluation.progress import Progress

PREFIX = "openai:"
SERVED = "served"
KEY_VARIABLE = "MEDQA_API_KEY"  # not OPENAI_API_KEY: a key that was made for one address is not sent to another
_AT_ONCE = 16
_SECONDS = 600


@dataclass(frozen=True)
class ServedModel:
    """Where a model is and how it is asked: ``url`` ends before ``/chat/completions``; ``system`` may be None."""

    url: str
    model: str
    system: str | None


def connect(named: str, system: str | None) -> ServedModel:
    """Find the model behind ``openai:URL`` or ``openai:URL#MODEL``; without a name, the first that the server lists.

    Raises:
        InputError: the address is none, or nothing answers there.
    """
    url, _, model = named.removeprefix(PREFIX).partition("#")
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--model {named}: no address of a server", "write it like openai:http://127.0.0.1:8000/v1")
    if not model:
        try:
            model = str(_call(f"{url}/models", None)["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{url}/models lists no model", f"name one: {PREFIX}{url}#MODEL") from error
    return ServedModel(url, model, system)


def served_answers(
    served: ServedModel, questions: Sequence[str], config: GenerateConfig, progress: Progress
) -> list[GeneratedAnswer]:
    """Ask each question at temperature 0, several at once; pieces that are done are taken as they are.

    Raises:
        InputError: nothing answers any more.
        MedqaError: an answer is not in OpenAI's form.
    """
    parts = {
        f"answers/{SERVED}/{number}": questions[start : start + _AT_ONCE]
        for number, start in enumerate(range(0, len(questions), _AT_ONCE))
    }
    done = 0
    with (
        ThreadPoolExecutor(_AT_ONCE) as pool,
        console.progress(f"answering with {served.model}", len(questions)) as bar,
    ):

        def compute(part: Sequence[str]) -> list[list[Any]]:
            return list(pool.map(partial(_ask, served, config), part))

        def advance(name: str) -> None:
            nonlocal done
            done += len(parts[name])
            bar.update(done)

        pieces = progress.run({name: partial(compute, part) for name, part in parts.items()}, advance)
    return [GeneratedAnswer(*values) for piece in pieces for values in piece]


def _ask(served: ServedModel, config: GenerateConfig, question: str) -> list[Any]:
    messages = [{"role": "system", "content": served.system}] if served.system else []
    body = {
        "model": served.model,
        "messages": [*messages, {"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": config.max_new_tokens,
    }
    answer = _call(f"{served.url}/chat/completions", body)
    try:
        choice = answer["choices"][0]
        tokens = int((answer.get("usage") or {}).get("completion_tokens") or 0)
        reason = "stop" if choice["finish_reason"] == "stop" else "length"
        return [str(choice["message"]["content"] or "").strip(), reason, tokens]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise MedqaError(f"{served.url} gave an answer that is not in OpenAI's form: {str(answer)[:200]}") from error


def _call(url: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    if key := os.environ.get(KEY_VARIABLE):
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        said = error.read(300).decode(errors="replace")
        hint = f"set the variable {KEY_VARIABLE} to its key" if error.code == 401 else "see the server's own log"
        raise InputError(f"{url} refused: {error.code} {error.reason}: {said}", hint) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"nothing answers at {url}: {reason}", "start the server, or correct the address") from error
    except ValueError as error:
        raise InputError(f"{url} did not answer in JSON", "name the address that ends in /v1") from error
