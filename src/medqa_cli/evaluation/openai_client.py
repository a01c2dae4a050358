"""Answers of a model behind a server with OpenAI's protocol: vLLM, llama.cpp, Ollama and others.

Only answers: the protocol has no likelihoods of given texts. The server renders the prompt with its own chat template.
Requests, with the questions of the split, go to the named address only; a key is sent only if the environment variable
``MEDQA_API_KEY`` is set. The server is not trusted: answers are limited in size and time, redirects to other addresses
are refused, and Ctrl-C ends all calls at once.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import select
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation.samples import GeneratedAnswer
from medqa_cli.files import without_surrogates
from medqa_cli.journal import SharedJournal
from medqa_cli.prompt.given import NOTHING, Given

PREFIX = "openai:"
SERVED = "served"
KEY_VARIABLE = "MEDQA_API_KEY"  # not OPENAI_API_KEY: that key must not be sent to another address
_AT_ONCE = 16
_MOST_CHARACTERS, _MOST_CHARACTERS_OF_A_TOKEN = 100_000, 100
_SHOWN = 200  # characters of what a server says
LARGEST_BODY = 1 << 23  # bytes; an answer has some thousand
SECONDS_TO_BEGIN = 600.0  # a model on a CPU thinks long
SECONDS_TO_END = 30.0  # after the first byte


@dataclass(frozen=True)
class ServedModel:
    """A model behind a server: ``url`` ends before ``/chat/completions``; ``system`` may be None."""

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
        raise InputError(
            f"--model {named}: not the address of a server", "write it like openai:http://127.0.0.1:8000/v1"
        )
    if not model:
        try:
            model = Calls().post(f"{url}/models", None)["data"][0]["id"]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{url}/models lists no model", f"name one: {PREFIX}{url}#MODEL") from error
        if not isinstance(model, str) or not model.isprintable():
            raise InputError(f"{url}/models lists a model without a name", f"name one: {PREFIX}{url}#MODEL")
    return ServedModel(url, model, system)


def served_answers(
    served: ServedModel,
    questions: Sequence[str],
    config: GenerateConfig,
    journal: SharedJournal,
    given: Sequence[Given] = (),
) -> list[GeneratedAnswer]:
    """Ask each question at temperature 0, several at once; finished pieces are taken from the journal.

    Earlier turns are sent as messages; a context stands before the first question, as a model learns it.

    Raises:
        InputError: the server no longer answers.
        MedqaError: an answer is not in OpenAI's form.
    """
    calls = Calls()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            values = journal.map(
                f"answers/{SERVED}",
                lambda part, _: list(pool.map(partial(_ask, served, config, calls), part)),
                list(zip(questions, given or [NOTHING] * len(questions), strict=True)),
                size=_AT_ONCE,
                title=f"answering with {served.model}",
            )
        except BaseException:
            # On an error or Ctrl-C, threads that wait for the server would keep the program from ending.
            pool.shutdown(wait=False, cancel_futures=True)
            calls.cut()
            raise
    return [GeneratedAnswer(*value) for value in values]


def _ask(served: ServedModel, config: GenerateConfig, calls: Calls, asked: tuple[str, Given]) -> list[Any]:
    question, given = asked
    messages = [{"role": "system", "content": served.system}] if served.system else []
    texts = [text for turn in given.earlier for text in turn] + [question]
    if given.context:
        texts[0] = f"{given.context}\n\n{texts[0]}"
    roles = itertools.cycle(("user", "assistant"))
    body = {
        "model": served.model,
        "messages": [*messages, *({"role": next(roles), "content": text} for text in texts)],
        "temperature": 0,
        "max_tokens": config.max_new_tokens,
    }
    answer = calls.post(f"{served.url}/chat/completions", body)
    try:
        choice = answer["choices"][0]
        text, tokens = choice["message"]["content"], (answer.get("usage") or {}).get("completion_tokens")
        reason = "stop" if choice["finish_reason"] == "stop" else "length"
        if isinstance(own := answer.get("medqa"), dict):
            # ``medqa serve``: in its content stand notices and sources too.
            text = own["answer"]
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
    return [without_surrogates(text or "").strip(), reason, tokens]


def _not_in_form(served: ServedModel, answer: object) -> MedqaError:
    try:
        shown = ascii(answer)[:_SHOWN]
    except RecursionError:
        shown = "nested too deeply to be shown"
    return MedqaError(f"{served.url} gave an answer that is not in OpenAI's form: {shown}", "see the server's own log")


class _Watch(contextlib.ExitStack):
    """The timers of one call, and whether one of them ended it."""

    is_late = False


class Calls:
    """Calls of several threads; ``cut`` ends all of them."""

    def __init__(self) -> None:
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False

    def cut(self) -> None:
        """End all calls, including later ones, with an error."""
        with self._lock:
            self._is_cut = True
            for open_socket in self._sockets:
                _cut(open_socket)

    def post(self, url: str, body: dict[str, Any] | None) -> Any:
        """Send a request and return the JSON of the answer.

        Args:
            url: http or https.
            body: None: a GET.

        Raises:
            InputError: the answer is missing, late, too large or not JSON.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        if key := os.environ.get(KEY_VARIABLE):
            request.add_unredirected_header("Authorization", f"Bearer {key}")  # not after a redirect
        watch = _Watch()
        try:
            with watch:
                opener = urllib.request.build_opener(_Handler(self, watch), _SameAddress(urlsplit(url).netloc))
                with opener.open(request, timeout=SECONDS_TO_BEGIN) as response:
                    content = response.read(LARGEST_BODY + 1)
                    if len(content) > LARGEST_BODY:
                        what = f"{url} answers with more than {LARGEST_BODY:,} bytes"
                        raise InputError(what, "see the server's own log")
                    if getattr(response, "length", None):
                        raise http.client.IncompleteRead(content, response.length)
                    return json.loads(content)
        except urllib.error.HTTPError as error:
            try:
                said = _shown(error.read(_SHOWN).decode(errors="replace"))
            except (OSError, http.client.HTTPException, ValueError):
                said = "(the rest of the answer is missing)"
            hint = "set the variable MEDQA_API_KEY to its key" if error.code == 401 else "see the server's own log"
            raise InputError(f"{url} refused: {error.code} {_shown(error.reason)}: {said}", hint) from error
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            if watch.is_late:
                raise InputError(f"{url} did not finish its answer in time", "see the server's own log") from error
            if isinstance(error, ValueError | RecursionError) and not isinstance(error, http.client.HTTPException):
                raise InputError(f"{url} did not answer in JSON", "name the address that ends in /v1") from error
            reason = getattr(error, "reason", error)
            raise InputError(
                f"nothing answers at {url}: {_shown(reason)}", "start the server, or correct the address"
            ) from error

    @contextlib.contextmanager
    def watched(self, sock: socket.socket, seconds: float, watch: _Watch) -> Iterator[None]:
        """Cut a socket after so many seconds, or when all calls are cut."""

        def end() -> None:
            watch.is_late = True
            _cut(sock)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        with self._lock:
            self._sockets.add(sock)
            if self._is_cut:
                _cut(sock)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._sockets.discard(sock)


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended
        sock.shutdown(socket.SHUT_RDWR)


def _shown(text: object) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)[:_SHOWN]).split())


class _SameAddress(urllib.request.HTTPRedirectHandler):
    def __init__(self, netloc: str) -> None:
        self._netloc = netloc

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).netloc != self._netloc or urlsplit(newurl).scheme not in ("http", "https"):
            raise InputError(
                f"{req.full_url} redirects to another address: {_shown(newurl)}", "if that is meant, name that address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Connection(http.client.HTTPConnection):
    """Waits long for the first byte, and a short time for the others."""

    calls: Calls
    watch: _Watch
    waits_by_itself = True

    def connect(self) -> None:
        super().connect()
        self.watch.enter_context(self.calls.watched(self.sock, SECONDS_TO_BEGIN + SECONDS_TO_END, self.watch))

    def getresponse(self) -> http.client.HTTPResponse:
        # On an encrypted connection the first byte does not belong to the answer yet.
        if self.waits_by_itself and select.select([self.sock], [], [], SECONDS_TO_BEGIN)[0]:
            self.watch.enter_context(self.calls.watched(self.sock, SECONDS_TO_END, self.watch))
        return super().getresponse()


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    waits_by_itself = False


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Makes connections that are ended when they take too long."""

    def __init__(self, calls: Calls, watch: _Watch) -> None:
        super().__init__()
        self._calls, self._watch = calls, watch

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(self._connection, _Connection), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(self._connection, _SecureConnection), req)

    def _connection(self, kind: type[_Connection], host: str, **options: Any) -> _Connection:
        made = kind(host, **options)
        made.calls, made.watch = self._calls, self._watch
        return made
