"""The work of ``medqa serve``: loads the model, listens, and ends when all that is under way is answered."""

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from medqa_cli import console
from medqa_cli.answering import engines
from medqa_cli.answering.ask import AskOptions
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.files import MODEL_NAMES
from medqa_cli.serving import app, guard, prometheus
from medqa_cli.serving.feedback import Feedback, require_feedback_file
from medqa_cli.serving.service import Service

KEY_VARIABLE = "MEDQA_SERVE_KEY"
_SHORTEST_KEY = 16
_MOST_HEADER_BYTES = 16 << 10
_MOST_PORTS_TRIED = 50
_FIRST_FREE_TO_ALL = 1024  # ports below may need root
SECONDS_FOR_HEADERS = 30.0
# Beside those that are answered or wait: connections that are kept open, health checks.
_MORE_CONNECTIONS = 256


class Protocol(H11Protocol):
    """Ends a connection on which no request arrives in time; uvicorn itself waits for ever for the rest of a header."""

    _before: Any = False  # the request at the last look; None: there was none yet

    def connection_made(self, transport: Any) -> None:
        """Begin to watch a new connection."""
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(SECONDS_FOR_HEADERS, self._check)

    def _check(self) -> None:
        if self.transport.is_closing():
            return
        request: Any = self.cycle
        if request is self._before and (request is None or request.response_complete):
            self.transport.close()
            return
        self._before = request
        asyncio.get_running_loop().call_later(SECONDS_FOR_HEADERS, self._check)


def key_for(host: str) -> str | None:
    """Return the key that callers must send, from the environment; None: none is needed.

    Raises:
        InputError: it is missing where other machines can connect, or it is unusable.
    """
    key = os.environ.get(KEY_VARIABLE)
    if key is None:
        if guard.is_loopback(host):
            return None
        raise InputError(
            f"--host {host} lets other machines connect, and {KEY_VARIABLE} is not set",
            f"set it to a key that callers must send: export {KEY_VARIABLE}=$(openssl rand -hex 24)",
        )
    if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"{KEY_VARIABLE} is not a key of {_SHORTEST_KEY} or more letters, digits and signs of ASCII",
            f"make one: export {KEY_VARIABLE}=$(openssl rand -hex 24)",
        )
    return key


def name_of(choice: str, config: Config) -> str:
    """Return the name under which a model is listed: that of its run, or of its folder or file."""
    if choice in MODEL_NAMES:
        return f"{config.run.path.resolve().name}-{choice}"
    return Path(choice).name or choice


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0: any free one.

    Raises:
        InputError: the address is none of this machine, or in use.
    """
    try:
        return _bound(host, port)
    except (OSError, OverflowError, UnicodeError) as error:
        hint = "name an address of this machine: --host 127.0.0.1"
        if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES):
            hint = f"end what uses the port, or name another: --port {_free_port_after(host, port)}"
        raise InputError(
            f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}", hint
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = found[0]
    return socket.create_server(address[:2], family=family, backlog=128)


def _free_port_after(host: str, port: int) -> int:
    """Return the next port on which this machine can listen; 0 (any free one): none is near."""
    first = max(port + 1, _FIRST_FREE_TO_ALL)
    for free in range(first, min(first + _MOST_PORTS_TRIED, 1 << 16)):
        with contextlib.suppress(OSError), _bound(host, free):
            return free
    return 0


def run(config: Config, choice: str, host: str, port: int, options: AskOptions, feedback: Path | None) -> None:
    """Serve a model until SIGTERM or Ctrl-C; what is under way then is answered first.

    Args:
        config: the run, its data, limits, and how answers are generated.
        choice: the model, as ``load_model`` takes it.
        host: address or name to listen on.
        port: where.
        options: what is shown beside answers.
        feedback: the file for what readers report; None: none.

    Raises:
        InputError: the address, the key, the model, the data or the file are not usable.
    """
    key = key_for(host)
    name = name_of(choice, config)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        if feedback is not None:
            require_feedback_file(feedback)
        answerer = engines.load_answerer(config, choice, batches=True)
        verdicts = None if feedback is None else Feedback(feedback, choice, answerer.encoder.contract)
        service = Service(config, choice, answerer, options)
        stack.callback(service.close)
        server = app.Server(
            service, config, name, prometheus.Metrics(), key=key, on_loopback=guard.is_loopback(host), feedback=verdicts
        )
        settings = uvicorn.Config(
            server.app,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            limit_concurrency=config.serve.max_requests + _MORE_CONNECTIONS,
        )
        shown = f"[{host}]" if ":" in host.strip("[]") else host
        console.end()
        console.note(f"{name} answers on http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)")
        # The server ends in order and then sends itself the signal again.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listening])
    console.note("ended")
