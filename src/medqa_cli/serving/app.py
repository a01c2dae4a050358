"""The routes: OpenAI's API, the page, health and metrics."""

import asyncio
import contextlib
import functools
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from medqa_cli.answering.generate import NOTICE
from medqa_cli.config.schema import Config
from medqa_cli.resources import policy_hash, template_environment
from medqa_cli.serving import guard, prometheus, responses
from medqa_cli.serving.feedback import Feedback
from medqa_cli.serving.requests import AnswerRequest, ApiError, parse, read_json, require_model
from medqa_cli.serving.service import Prepared, Service

SECONDS_FOR_A_BODY = 30.0
_MOST_DRAINED = 64 << 20  # bytes of a body that is too large, so that its sender reads the response
_MOST_DIGITS = 18  # of a Content-Length
_GONE = 499  # nobody reads it; the metrics show it
_OPEN_PATHS = ("/", "/healthz")


class Server:
    """The application of one service.

    Args:
        service: answers.
        config: its limits.
        model: the name under which it is listed.
        metrics: what is counted.
        key: that callers must send; None: none.
        on_loopback: whether it listens on the loopback alone.
        feedback: where readers' verdicts go; None: nowhere, and the page has no button for them.
    """

    def __init__(
        self,
        service: Service,
        config: Config,
        model: str,
        metrics: prometheus.Metrics,
        *,
        key: str | None = None,
        on_loopback: bool = True,
        feedback: Feedback | None = None,
    ) -> None:
        self._service, self._config, self._model, self._metrics = service, config, model, metrics
        self._feedback = feedback
        self._page = Page(model, has_feedback=feedback is not None, needs_key=key is not None)
        self._started = int(time.time())
        routes = [
            Route("/", self._show_page),
            Route("/healthz", self._health),
            Route("/metrics", self._show_metrics),
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._show_model),
            Route("/v1/chat/completions", functools.partial(self._answer, is_chat=True), methods=["POST"]),
            Route("/v1/completions", functools.partial(self._answer, is_chat=False), methods=["POST"]),
        ]
        if feedback is not None:
            routes.append(Route("/feedback", self._take_feedback, methods=["POST"]))
        paths = {route.path for route in routes}
        handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
            ApiError: _refused,
            HTTPException: _no_route,
            Exception: _failed,
        }
        inner = Starlette(routes=routes, exception_handlers=handlers)
        self.app: ASGIApp = guard.Guard(
            inner,
            key,
            on_loopback,
            _OPEN_PATHS,
            # Paths that somebody made up are one.
            lambda path, status: metrics.responded(path if path in paths else "other", status),
        )

    async def _show_page(self, request: Request) -> Response:
        return HTMLResponse(self._page.text, headers={"content-security-policy": self._page.policy})

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _show_metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._metrics.text(), media_type=prometheus.TYPE)

    def _described(self) -> dict[str, Any]:
        return {"id": self._model, "object": "model", "created": self._started, "owned_by": "medqa"}

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def _show_model(self, request: Request) -> Response:
        require_model(request.path_params["name"], self._model)
        return JSONResponse(self._described())

    async def _take_feedback(self, request: Request) -> Response:
        assert self._feedback is not None
        await asyncio.to_thread(self._feedback.add, read_json(await self._body(request)))
        return JSONResponse({"status": "written"})

    async def _answer(self, request: Request, *, is_chat: bool) -> Response:
        began = time.perf_counter()
        body = read_json(await self._body(request))
        asked = parse(body, self._config, self._model, self._service.prompt, is_chat=is_chat)
        most = self._config.serve.max_requests
        if self._metrics.under_way >= most:
            raise ApiError(429, f"{most} requests are under way: try again soon", "rate_limit_exceeded")
        with contextlib.ExitStack() as slot:
            self._metrics.under_way += 1
            slot.callback(self._leave)
            prepared = await self._service.prepare(asked)
            events = self._events(asked, prepared, began)
            if not asked.streams:
                return await self._collected(request, asked, events)
            return _Streamed(self._stream(asked, prepared, events), slot.pop_all())

    def _leave(self) -> None:
        self._metrics.under_way -= 1

    async def _events(
        self, asked: AnswerRequest, prepared: Prepared, began: float
    ) -> AsyncGenerator[str | dict[str, Any], None]:
        """Yield the pieces of an answer and its end, and count them."""
        is_first = True
        async with contextlib.aclosing(self._service.answer(asked, prepared)) as events:
            async for event in events:
                if is_first and event:
                    self._metrics.began(time.perf_counter() - began)
                    is_first = False
                if isinstance(event, dict):
                    self._metrics.ended(event, len(prepared.notices), time.perf_counter() - began)
                yield event

    async def _collected(
        self, request: Request, asked: AnswerRequest, events: AsyncGenerator[str | dict[str, Any], None]
    ) -> Response:
        """Wait for the whole answer; end it where the caller has gone."""

        async def collect() -> tuple[str, dict[str, Any]]:
            pieces, data = [], {}
            async with contextlib.aclosing(events):
                async for event in events:
                    if isinstance(event, dict):
                        data = event
                    else:
                        pieces.append(event)
            return "".join(pieces), data

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        answer, absence = asyncio.create_task(collect()), asyncio.create_task(gone())
        try:
            await asyncio.wait({answer, absence}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return Response(status_code=_GONE)
            return JSONResponse(responses.ResponseForm(asked, self._model).whole(*answer.result()))
        finally:
            for task in (answer, absence):
                task.cancel()
            await asyncio.gather(answer, absence, return_exceptions=True)

    async def _stream(
        self, asked: AnswerRequest, prepared: Prepared, events: AsyncGenerator[str | dict[str, Any], None]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events of a streamed answer."""
        form = responses.ResponseForm(asked, self._model)
        async with contextlib.aclosing(events):
            yield form.first(prepared.notices)
            try:
                async for event in events:
                    if isinstance(event, dict):
                        yield form.last(event)
                    else:
                        yield form.piece(event) if event else responses.ALIVE
            except ApiError as error:
                yield responses.event(error.as_json())

    async def _body(self, request: Request) -> bytes:
        """Read the body of a request.

        Raises:
            ApiError: it is no JSON, too large, late, or cut off.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, "send JSON: Content-Type: application/json", "wrong_content_type")
        most, size, parts = self._config.serve.max_body_bytes, 0, []
        too_large = ApiError(413, f"the body has more than {most:,} bytes", "body_too_large")
        claimed = request.headers.get("content-length", "0")
        if not claimed.isdecimal() or len(claimed) > _MOST_DIGITS:
            raise too_large
        if most < int(claimed) > _MOST_DRAINED:
            raise too_large
        try:
            async with asyncio.timeout(SECONDS_FOR_A_BODY):
                async for part in request.stream():
                    size += len(part)
                    if size <= most:
                        parts.append(part)
                    elif size > _MOST_DRAINED:
                        break
        except TimeoutError as error:
            raise ApiError(408, f"the body did not arrive within {SECONDS_FOR_A_BODY:.0f} s", "late_body") from error
        except ClientDisconnect as error:
            raise ApiError(400, "the body was cut off", "cut_off") from error
        if size > most:
            raise too_large
        return b"".join(parts)


class Page:
    """The page for people, which holds its style and its script, and the policy that lets nothing else in.

    Args:
        model: the name of the one that answers.
        has_feedback: whether readers can call an answer wrong or harmful.
        needs_key: whether the page has to ask for the key.
    """

    def __init__(self, model: str, *, has_feedback: bool, needs_key: bool) -> None:
        template = template_environment(lambda value: value, autoescape=True).get_template("serve.html.j2")
        self.text = template.render(model=model, notice=NOTICE, has_feedback=has_feedback, needs_key=needs_key)
        self.policy = f"{guard.CLOSED}; connect-src 'self'; img-src data:"
        for kind in ("script", "style"):
            self.policy += f"; {kind}-src"
            for element in re.findall(rf"<{kind}>(.*?)</{kind}>", self.text, re.DOTALL):
                self.policy += f" '{policy_hash(element)}'"


class _Streamed(StreamingResponse):
    """A streamed answer that gives its place to another one when it ends, however that is."""

    def __init__(self, content: AsyncGenerator[bytes, None], slot: contextlib.ExitStack) -> None:
        super().__init__(content, media_type="text/event-stream")
        self._content, self._slot = content, slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slot:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._content.aclose()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.as_json(), error.status)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(ApiError(error.status_code, error.detail).as_json(), error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(ApiError(500, "the server failed at this request").as_json(), 500)
