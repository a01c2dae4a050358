"""Who may ask: the key, the name of the host, pages of other origins; bodies that are too large, late, not JSON."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from starlette.testclient import TestClient

from helpers.answerers import make_answerer
from helpers.serving import NAME, chat, serving
from medqa_cli.config.schema import Config, GenerateConfig, ServeConfig
from medqa_cli.errors import InputError
from medqa_cli.serving import app
from medqa_cli.serving.guard import is_loopback
from medqa_cli.serving.run import key_for, listen

CONFIG = Config(generate=GenerateConfig(max_new_tokens=4), serve=ServeConfig(max_body_bytes=2000))
KEY = "k" * 40
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def open_client(chatml_tokenizer: Any) -> Iterator[TestClient]:
    with serving(CONFIG, make_answerer(chatml_tokenizer, [300, 301])) as client:
        yield client


@pytest.fixture(scope="module")
def key_client(chatml_tokenizer: Any) -> Iterator[TestClient]:
    answerer = make_answerer(chatml_tokenizer, [300, 301])
    with serving(CONFIG, answerer, key=KEY, on_loopback=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", CHAT, "/v1/completions", "/nowhere"])
def test_all_but_page_and_health_need_the_key(key_client: TestClient, path: str) -> None:
    for sent in (None, "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer é"):
        headers = {} if sent is None else {b"Authorization": sent.encode("latin-1")}
        refused = key_client.get(path, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert key_client.get(path, headers={"Authorization": f"bearer {KEY}"}).status_code in (200, 404, 405)


def test_page_and_health_are_open_and_the_page_asks_for_the_key(
    key_client: TestClient, open_client: TestClient
) -> None:
    assert 'type="password"' in key_client.get("/").text
    assert 'type="password"' not in open_client.get("/").text
    assert key_client.get("/healthz").json() == {"status": "ok"}
    answered = key_client.post(CHAT, json=chat("What is gout?"), headers={"Authorization": f"Bearer {KEY}"})
    assert answered.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("127.0.0.1", "127.0.0.1:8088", "LocalHost:1", "[::1]:8088", "[::1]")),
        *((host, 421) for host in ("evil.example", "127.0.0.1.evil.example", "localhost.", "evil.example:1", "::1")),
    ],
)
def test_on_the_loopback_a_name_of_a_stranger_is_refused(open_client: TestClient, host: str, status: int) -> None:
    assert open_client.get("/healthz", headers={"Host": host}).status_code == status


def test_elsewhere_any_name_will_do_since_the_key_is_needed(key_client: TestClient) -> None:
    assert key_client.get("/healthz", headers={"Host": "medqa.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[bad"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_requests_of_pages_of_another_origin_are_refused(
    open_client: TestClient, headers: dict[str, str], status: int
) -> None:
    response = open_client.post(CHAT, json=chat("What is gout?"), headers=headers)
    assert response.status_code == status
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/nowhere", CHAT])
def test_every_response_forbids_frames_sniffing_and_foreign_content(open_client: TestClient, path: str) -> None:
    headers = open_client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_what_is_not_there_or_not_allowed_has_an_error_of_the_same_form(open_client: TestClient) -> None:
    for response, status in ((open_client.get("/nowhere"), 404), (open_client.get(CHAT), 405)):
        assert response.status_code == status
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert open_client.get(f"/v1/models/{NAME}").json()["id"] == NAME
    assert open_client.get("/v1/models/other").status_code == 404
    assert open_client.post("/feedback", json={}).status_code == 404


def test_a_body_of_another_kind_or_too_large_is_refused(open_client: TestClient) -> None:
    plain = open_client.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    right = open_client.post(CHAT, content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert right.json()["error"]["code"] == "missing_model"
    size = len(json.dumps(chat("What is gout?", user=""), separators=(",", ":")))
    for more, status in ((0, 200), (1, 413)):
        content = json.dumps(chat("What is gout?", user="x" * (2000 - size + more)), separators=(",", ":"))
        sent = open_client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
        assert sent.status_code == status
    for claimed in ("999999999999", "9" * 5000, "-5", "many"):
        headers = {"Content-Type": "application/json", "Content-Length": claimed}
        assert open_client.post(CHAT, content=b"{}", headers=headers).status_code == 413


def test_a_body_that_does_not_come_is_given_up(chatml_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SECONDS_FOR_A_BODY", 0.05)
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(),
             "query_string": b"", "headers": headers, "scheme": "http", "root_path": "",
             "asgi": {"version": "3.0", "spec_version": "2.3"}}  # fmt: skip
    sent: list[Any] = []

    async def run(served: Any) -> None:
        async def receive() -> Any:
            await asyncio.sleep(20)

        async def send(message: Any) -> None:
            sent.append(message)

        await served(scope, receive, send)

    with serving(CONFIG, make_answerer(chatml_tokenizer, [300])) as client:
        anyio.run(run, client.app)
    assert sent[0]["status"] == 408


def test_other_machines_need_a_key_and_it_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDQA_SERVE_KEY", raising=False)
    assert [key_for(host) for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8")] == [None] * 5
    for host in ("0.0.0.0", "::", "192.168.1.5", "medqa.example"):
        with pytest.raises(InputError, match="MEDQA_SERVE_KEY is not set"):
            key_for(host)
    for key in ("", "short", "x" * 15, "with a space in it", "ключ" * 8):
        monkeypatch.setenv("MEDQA_SERVE_KEY", key)
        with pytest.raises(InputError, match="is not a key of 16"):
            key_for("0.0.0.0")
    monkeypatch.setenv("MEDQA_SERVE_KEY", KEY)
    assert (key_for("0.0.0.0"), key_for("127.0.0.1")) == (KEY, KEY)
    assert not is_loopback("0.0.0.0")


def test_an_address_that_cannot_be_had_is_an_error_with_a_way_out() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"):
            listen("127.0.0.1", port)
    with pytest.raises(InputError, match="cannot listen"):
        listen("203.0.113.7", 0)


def test_the_limits_of_the_config_are_those_of_the_server(chatml_tokenizer: Any) -> None:
    config = replace(CONFIG, serve=ServeConfig(max_question_characters=20))
    with serving(config, make_answerer(chatml_tokenizer, [300])) as client:
        long = client.post(CHAT, json=chat("What is gout, and who gets it?"))
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
