"""What stands before every route: who may ask, from where, and what a response never lacks.

A page of a stranger that a browser has open can reach an address of this machine, under a name of its own
(DNS rebinding) or with a form. So names other than those of the loopback are refused there, and requests that a browser
sends for a page of another origin.
"""

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medqa_cli import console
from medqa_cli.serving.requests import ApiError

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """Checks each request before the application gets it.

    Args:
        app: what is guarded.
        key: that callers must send; None: none.
        on_loopback: whether the server listens on the loopback alone.
        open_paths: that need no key.
        on_response: called with the path and the status of each response.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: str | None,
        on_loopback: bool,
        open_paths: Iterable[str],
        on_response: Callable[[str, int], None],
    ) -> None:
        self._app, self._on_loopback, self._on_response = app, on_loopback, on_response
        self._key = None if key is None else _digest(key.encode())
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", CLOSED)
                self._on_response(scope["path"], message["status"])
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["path"])
        except ApiError as error:
            response = JSONResponse(error.as_json(), error.status)
            if error.status == 401:
                response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send_on)
            return
        try:
            await self._app(scope, receive, send_on)
        except Exception as error:  # the caller has its response; a traceback could hold what was asked
            if os.environ.get("MEDQA_DEBUG") == "1":
                raise
            console.warn(f"a request failed: {type(error).__name__}")

    def _check(self, headers: Headers, path: str) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise ApiError(400, "the request has no Host, or several", "wrong_host")
        name, colon, port = hosts[0].rpartition(":")
        name = name if colon and port.isdecimal() else hosts[0]
        if self._on_loopback and name.lower() not in _LOOPBACK_NAMES:
            what = f"this server answers to {', '.join(_LOOPBACK_NAMES)} only"
            raise ApiError(421, what, "wrong_host")
        origin = headers.get("origin")
        try:
            # That of ``null`` is empty.
            is_foreign = origin is not None and urlsplit(origin).netloc.lower() != hosts[0].lower()
        except ValueError:
            is_foreign = True
        if is_foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ApiError(403, "requests of pages of another origin are refused", "wrong_origin")
        if self._key is not None and path not in self._open_paths:
            given = headers.get("authorization", "")
            scheme, _, key = given.partition(" ")
            # Hashes of equal length: the time tells nothing of the key, nor of its length.
            fits = hmac.compare_digest(_digest(key.strip().encode("latin-1", "replace")), self._key)
            if not (fits and scheme.lower() == "bearer"):
                raise ApiError(401, "the key is missing or wrong: Authorization: Bearer KEY", "invalid_api_key")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
