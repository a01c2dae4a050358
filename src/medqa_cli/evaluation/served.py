"""Answers of a model that a server offers by OpenAI's protocol: vLLM, llama.cpp, Ollama and others.

Answers only: likelihoods of given texts are not part of the protocol. The server renders the prompt by its own chat
template. Nothing is sent anywhere but to the address that was named, the questions of the split among it; a key only
where the environment variable ``MEDQA_API_KEY`` holds one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation.generation import GeneratedAnswer
from medqa_cli.evaluation.http_json import Calls
from medqa_cli.journal import SharedJournal

PREFIX = "openai:"
SERVED = "served"
KEY_VARIABLE = "MEDQA_API_KEY"  # not OPENAI_API_KEY: a key that was made for one address is not sent to another
_AT_ONCE = 16
_MOST_CHARACTERS, _MOST_CHARACTERS_OF_A_TOKEN = 100_000, 100
_SHOWN = 200


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
            model = Calls().post(f"{url}/models", None, os.environ.get(KEY_VARIABLE))["data"][0]["id"]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{url}/models lists no model", f"name one: {PREFIX}{url}#MODEL") from error
        if not isinstance(model, str) or not model.isprintable():
            raise InputError(f"{url}/models lists a model without a name", f"name one: {PREFIX}{url}#MODEL")
    return ServedModel(url, model, system)


def served_answers(
    served: ServedModel, questions: Sequence[str], config: GenerateConfig, journal: SharedJournal
) -> list[GeneratedAnswer]:
    """Ask each question at temperature 0, several at once; pieces that are done are taken as they are.

    Raises:
        InputError: nothing answers any more.
        MedqaError: an answer is not in OpenAI's form.
    """
    calls = Calls()
    with ThreadPoolExecutor(_AT_ONCE) as pool, _ended_with(calls, pool):
        values = journal.map(
            f"answers/{SERVED}",
            lambda part, _: list(pool.map(partial(_ask, served, config, calls), part)),
            questions,
            size=_AT_ONCE,
            title=f"answering with {served.model}",
        )
    return [GeneratedAnswer(*value) for value in values]


@contextlib.contextmanager
def _ended_with(calls: Calls, pool: ThreadPoolExecutor) -> Iterator[None]:
    """End all calls on an error or Ctrl-C: threads that wait for a server would keep the program from ending."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        calls.cut()
        raise


def _ask(served: ServedModel, config: GenerateConfig, calls: Calls, question: str) -> list[Any]:
    messages = [{"role": "system", "content": served.system}] if served.system else []
    body = {
        "model": served.model,
        "messages": [*messages, {"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": config.max_new_tokens,
    }
    answer = calls.post(f"{served.url}/chat/completions", body, os.environ.get(KEY_VARIABLE))
    try:
        choice = answer["choices"][0]
        text, tokens = choice["message"]["content"], (answer.get("usage") or {}).get("completion_tokens")
        reason = "stop" if choice["finish_reason"] == "stop" else "length"
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _not_in_form(served, answer) from error
    if not isinstance(text, str | None) or not (tokens is None or (type(tokens) is int and 0 <= tokens < 1 << 40)):
        raise _not_in_form(served, answer)
    most = max(_MOST_CHARACTERS, _MOST_CHARACTERS_OF_A_TOKEN * config.max_new_tokens)
    if text is not None and len(text) > most:
        raise MedqaError(
            f"{served.url} gave an answer of {len(text):,} characters, though at most {config.max_new_tokens} tokens "
            "were asked for",
            "see the server's own log",
        )
    # Halves of letters, which JSON can hold and no file.
    whole = (text or "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return [whole.strip(), reason, tokens or 0]


def _not_in_form(served: ServedModel, answer: object) -> MedqaError:
    try:
        said = ascii(answer)[:_SHOWN]
    except RecursionError:
        said = "nested too deeply to be shown"
    return MedqaError(f"{served.url} gave an answer that is not in OpenAI's form: {said}", "see the server's own log")
