"""JSON over HTTP from a server that may send anything, or nothing, or never end.

Reads so many bytes and no more, follows no redirect to another address, and lets whoever asked end all calls at once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import urlsplit

from medqa_cli.errors import InputError

LARGEST_BODY = 1 << 23  # bytes; an answer has some thousand
SECONDS_TO_BEGIN = 600.0  # a model on a CPU thinks long
SECONDS_TO_END = 30.0  # after the first byte
_SHOWN = 200  # characters of what a server says


class _Watch(contextlib.ExitStack):
    """The timers of one call, and whether one of them had to end it."""

    is_late = False


class Calls:
    """Calls of several threads, which ``cut`` ends."""

    def __init__(self) -> None:
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False

    def cut(self) -> None:
        """End all calls, now and from now on: whoever waits for one gets an error."""
        with self._lock:
            self._is_cut = True
            for each in self._sockets:
                _cut(each)

    def post(self, url: str, body: dict[str, Any] | None, key: str | None) -> Any:
        """Send a body, or ask without one, and return the JSON of the answer.

        Args:
            url: http or https.
            body: None: a GET.
            key: for the ``Authorization`` header; it is not sent after a redirect.

        Raises:
            InputError: nothing answers, or something that is no JSON, or too much, or not in time.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        if key:
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        watch = _Watch()
        try:
            with watch:
                opener = urllib.request.build_opener(
                    _Http(self, watch), _Https(self, watch), _SameAddress(urlsplit(url).netloc)
                )
                with opener.open(request, timeout=SECONDS_TO_BEGIN) as response:
                    return json.loads(_read(response, url))
        except urllib.error.HTTPError as error:
            hint = "set the variable MEDQA_API_KEY to its key" if error.code == 401 else "see the server's own log"
            raise InputError(f"{url} refused: {error.code} {_shown(error.reason)}: {_said(error)}", hint) from error
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            if watch.is_late:
                raise InputError(f"{url} did not answer to the end in time", "see the server's own log") from error
            if isinstance(error, ValueError | RecursionError) and not isinstance(error, http.client.HTTPException):
                raise InputError(f"{url} did not answer in JSON", "name the address that ends in /v1") from error
            reason = getattr(error, "reason", error)
            raise InputError(
                f"nothing answers at {url}: {_shown(reason)}", "start the server, or correct the address"
            ) from error

    @contextlib.contextmanager
    def watched(self, each: socket.socket, seconds: float, watch: _Watch) -> Iterator[None]:
        """Cut a socket after so many seconds, or when all calls are cut."""

        def end() -> None:
            watch.is_late = True
            _cut(each)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        with self._lock:
            self._sockets.add(each)
            if self._is_cut:
                _cut(each)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._sockets.discard(each)


def _cut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended
        each.shutdown(socket.SHUT_RDWR)


def _read(response: IO[bytes], url: str) -> bytes:
    content = response.read(LARGEST_BODY + 1)
    if len(content) > LARGEST_BODY:
        raise InputError(f"{url} answers with more than {LARGEST_BODY:,} bytes", "see the server's own log")
    if getattr(response, "length", None):
        raise http.client.IncompleteRead(content, response.length)  # type: ignore[attr-defined]
    return content


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return _shown(error.read(_SHOWN).decode(errors="replace"))
    except (OSError, http.client.HTTPException, ValueError):
        return "(the rest of the answer is missing)"


def _shown(text: object) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)[:_SHOWN]).split())


class _SameAddress(urllib.request.HTTPRedirectHandler):
    def __init__(self, netloc: str) -> None:
        self._netloc = netloc

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).netloc != self._netloc or urlsplit(newurl).scheme not in ("http", "https"):
            raise InputError(
                f"{req.full_url} sends elsewhere, to {_shown(newurl)}", "if that is meant, name that address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Connection(http.client.HTTPConnection):
    """Waits long for the first byte, and not long for the others."""

    calls: Calls
    watch: _Watch
    waits_by_itself = True

    def connect(self) -> None:
        super().connect()
        self.watch.enter_context(self.calls.watched(self.sock, SECONDS_TO_BEGIN + SECONDS_TO_END, self.watch))

    def getresponse(self) -> http.client.HTTPResponse:
        # Of an encrypted connection, the first byte is not yet one of the answer.
        if self.waits_by_itself and select.select([self.sock], [], [], SECONDS_TO_BEGIN)[0]:
            self.watch.enter_context(self.calls.watched(self.sock, SECONDS_TO_END, self.watch))
        return super().getresponse()


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    waits_by_itself = False


class _Http(urllib.request.HTTPHandler):
    def __init__(self, calls: Calls, watch: _Watch) -> None:
        super().__init__()
        self._connection = _watched(_Connection, calls, watch)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, calls: Calls, watch: _Watch) -> None:
        super().__init__()
        self._connection = _watched(_SecureConnection, calls, watch)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req)


def _watched(kind: type[_Connection], calls: Calls, watch: _Watch) -> Any:
    """Return what makes connections that are ended when they take too long."""

    def connection(host: str, **options: Any) -> _Connection:
        made = kind(host, **options)
        made.calls, made.watch = calls, watch
        return made

    return connection
