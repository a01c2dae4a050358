"""The server answers as ``ask`` does, whole and streamed, alone and beside others; the rules of the data come first."""

import base64
import hashlib
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from helpers.serving import NAME, chat, events_of, serving, write_rows
from medqa_cli.answering import engines
from medqa_cli.answering.ask import AskOptions
from medqa_cli.answering.emergencies import ONLY_ENGLISH, PERHAPS_NOT_ENGLISH, emergency_notices
from medqa_cli.answering.generate import KEYS, NOTICE, answer_question
from medqa_cli.answering.open_book import NOTHING_NEAR, REVIEWED_NOTICE
from medqa_cli.config.schema import Config, GenerateConfig, ModelConfig, PromptConfig, ServeConfig, SourcesConfig
from medqa_cli.errors import MedqaError
from medqa_cli.files import RunFolder
from medqa_cli.model.load import LoadedModel, load_model
from medqa_cli.serving.app import Server
from medqa_cli.serving.prometheus import Metrics
from medqa_cli.serving.service import Service

ROWS = [
    ("r1", "How to treat gout?", "Gout is treated with rest and medicines.", "gout"),
    ("r2", "What is asthma?", "Asthma is a disease of the airways.", "asthma"),
]
EMERGENCY = "My father's face is drooping, what now?"
CHAT = "/v1/chat/completions"
CONFIG = Config(generate=GenerateConfig(max_new_tokens=24))


@pytest.fixture(scope="module")
def answerer(talking_model_dir: Path) -> LoadedModel:
    model = ModelConfig(quantization="none", compute_dtype="float32")
    return load_model(str(talking_model_dir), RunFolder(Path("nowhere")), model, PromptConfig(template="chat"))


def open_book_config(folder: Path, **changes: Any) -> Config:
    write_rows(folder / "data", ROWS)
    data = replace(CONFIG.data, dir=str(folder / "data"))
    return replace(CONFIG, data=data, sources=SourcesConfig(reviewed_first=True), **changes)


def test_an_answer_is_that_of_ask_with_its_ending_and_its_tokens(answerer: LoadedModel) -> None:
    alone = answer_question(answerer, "What is gout?", CONFIG.generate)
    with serving(CONFIG, answerer) as client:
        response = client.post(CHAT, json=chat("What  is\ngout?"))
    assert response.status_code == 200
    found = response.json()
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": f"{alone.text}\n\n{NOTICE}"}
    assert choice["finish_reason"] == ("stop" if alone.complete else "length")
    counts = alone.prompt_tokens, alone.answer_tokens
    assert found["usage"] == {
        "prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)
    }  # fmt: skip
    assert found["medqa"].keys() == {*KEYS, "earlier_turns", "ignored"}
    assert (found["medqa"]["answer"], found["medqa"]["notices"]) == (alone.text, [NOTICE])
    assert (found["medqa"]["earlier_turns"], found["medqa"]["ignored"]) == ("none", [])


def test_a_stream_has_the_same_text_in_pieces_and_the_usage_if_asked_for(answerer: LoadedModel) -> None:
    with serving(CONFIG, answerer) as client:
        whole = client.post(CHAT, json=chat("What is gout?")).json()
        asked = chat("What is gout?", stream=True, stream_options={"include_usage": True})
        response = client.post(CHAT, json=asked)
        without = events_of(client.post(CHAT, json=chat("What is gout?", stream=True)).text)
    assert response.headers["content-type"].startswith("text/event-stream")
    first, *pieces, last, usage = events_of(response.text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(pieces) > 1
    text = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
    assert text == whole["choices"][0]["message"]["content"]
    assert last["choices"][0] | {"delta": None} == without[-1]["choices"][0] | {"delta": None}
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert [event["usage"] for event in (first, *pieces, last)] == [None] * (2 + len(pieces))
    assert not any("usage" in event for event in without)
    assert {event["id"] for event in (first, *pieces, last, usage)} == {first["id"]}


def test_a_plain_completion_takes_the_prompt_for_the_question(answerer: LoadedModel) -> None:
    with serving(CONFIG, answerer) as client:
        talk = client.post(CHAT, json=chat("What is gout?")).json()["choices"][0]
        body = {"model": NAME, "prompt": "What is gout?"}
        (plain,) = client.post("/v1/completions", json=body).json()["choices"]
        streamed = events_of(client.post("/v1/completions", json={**body, "stream": True}).text)
    assert (plain["text"], plain["finish_reason"]) == (talk["message"]["content"], talk["finish_reason"])
    assert "".join(event["choices"][0]["text"] for event in streamed) == plain["text"]


def test_questions_at_once_get_the_answers_that_they_get_alone(answerer: LoadedModel) -> None:
    questions = [f"What is {name}?" for name in ("gout", "asthma", "a cold", "the nerve", "flu", "treatment")]
    config = replace(CONFIG, generate=GenerateConfig(max_new_tokens=40))
    alone = [answer_question(answerer, question, config.generate).text for question in questions]
    assert len(set(alone)) == len(questions)
    with serving(config, answerer) as client, ThreadPoolExecutor(len(questions)) as pool:
        at_once = list(pool.map(lambda question: client.post(CHAT, json=chat(question)).json(), questions))
        # Another temperature is another batch, and does not change the others.
        warm = pool.submit(client.post, CHAT, json=chat("What is gout?", temperature=1.5))
        again = client.post(CHAT, json=chat("What is gout?")).json()
        assert warm.result().status_code == 200
    assert [found["medqa"]["answer"] for found in at_once] == alone
    assert again["medqa"]["answer"] == alone[0]


def test_the_notice_of_an_emergency_comes_first_and_beside_a_bare_answer(answerer: LoadedModel) -> None:
    (notice,) = emergency_notices(EMERGENCY)
    with serving(CONFIG, answerer) as client:
        shown = client.post(CHAT, json=chat(EMERGENCY)).json()
        bare = client.post(CHAT, json=chat(EMERGENCY, medqa={"content": "answer"})).json()
        streamed = events_of(client.post(CHAT, json=chat(EMERGENCY, stream=True)).text)
    answer = bare["choices"][0]["message"]["content"]
    assert shown["choices"][0]["message"]["content"] == f"{notice}\n\n{answer}\n\n{NOTICE}"
    assert shown["medqa"]["answer"] == bare["medqa"]["answer"] == answer
    assert shown["medqa"]["notices"] == bare["medqa"]["notices"] == [notice, NOTICE]
    assert streamed[0]["medqa"] == {"notices": [notice]}
    assert streamed[1]["choices"][0]["delta"] == {"content": f"{notice}\n\n"}


@pytest.mark.parametrize("streams", [False, True])
def test_the_notice_of_an_answer_ends_its_content_in_every_language_unless_it_is_bare(
    answerer: LoadedModel, streams: bool
) -> None:
    def content(body: dict[str, Any]) -> str:
        text = client.post(CHAT, json={**body, "stream": streams}).text
        if not streams:
            return str(json.loads(text)["choices"][0]["message"]["content"])
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events_of(text))

    spanish = "¿Cómo se trata la gota en las personas mayores?"
    with serving(CONFIG, answerer) as client:
        bare = [content(chat(question, medqa={"content": "answer"})) for question in ("What is gout?", spanish)]
        shown = [content(chat(question)) for question in ("What is gout?", spanish)]
    assert shown == [f"{bare[0]}\n\n{NOTICE}", f"{bare[1]}\n\n{NOTICE}{ONLY_ENGLISH}"]


def test_a_reviewed_answer_and_nothing_near_need_no_model(
    answerer: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_book_config(tmp_path)
    real, decoded = engines.decode, []

    def noted(*given: Any) -> None:
        decoded.append(given)
        real(*given)

    monkeypatch.setattr(engines, "decode", noted)
    with serving(config, answerer) as client:
        reviewed = client.post(CHAT, json=chat("How do you treat gout?")).json()
        bare = client.post(CHAT, json=chat("How do you treat gout?", medqa={"content": "answer"})).json()
        far = client.post(CHAT, json=chat("zzz qqq?")).json()
        urgent = client.post(CHAT, json=chat(EMERGENCY)).json()
        assert decoded == []
        both = client.post(CHAT, json=chat("How do you treat gout?", medqa={"also_model": True})).json()
        anyway = client.post(CHAT, json=chat("zzz qqq?", medqa={"anyway": True})).json()
    row = ROWS[0][2]
    assert reviewed["choices"][0]["message"]["content"] == f"{row}\n\n{REVIEWED_NOTICE}"
    assert reviewed["choices"][0]["finish_reason"] == "stop"
    assert (reviewed["medqa"]["finish_reason"], reviewed["medqa"]["reviewed"]["id"]) == ("reviewed", "r1")
    assert bare["choices"][0]["message"]["content"] == row
    assert far["choices"][0]["message"]["content"] == NOTHING_NEAR + PERHAPS_NOT_ENGLISH
    assert far["medqa"]["nothing_near"] is True
    assert urgent["choices"][0]["message"]["content"].startswith(emergency_notices(EMERGENCY)[0])
    assert len(decoded) == 2
    text = both["choices"][0]["message"]["content"]
    assert text.startswith(f"Reviewed answer, word for word: {ROWS[0][1]}\n\n{row}")
    assert text.endswith(f"{both['medqa']['answer']}\n\n{NOTICE}")
    assert len(anyway["medqa"]["answer"]) > 10


def test_a_server_may_let_the_model_answer_always(answerer: LoadedModel, tmp_path: Path) -> None:
    with serving(open_book_config(tmp_path), answerer, AskOptions(anyway=True)) as client:
        found = client.post(CHAT, json=chat("zzz qqq?")).json()["medqa"]
    assert (found["nothing_near"], found["model"]["name"]) == (True, answerer.name)


@pytest.mark.parametrize("how", ["leave_out", "before_question"])
def test_earlier_turns_are_left_out_or_put_before_and_the_response_says_which(answerer: LoadedModel, how: Any) -> None:
    (notice,) = emergency_notices(EMERGENCY)
    messages = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "What is gout?"},
        {"role": "assistant", "content": f"{notice}\n\nA disease [1].\n\nSources:\n[1] r1: Gout"},
        {"role": "user", "content": "Who gets it?"},
    ]
    config = replace(CONFIG, serve=ServeConfig(earlier_turns=how))
    with serving(config, answerer) as client:
        found = client.post(CHAT, json={"model": NAME, "messages": messages, "seed": 1}).json()["medqa"]
    before = "Earlier question: What is gout? Earlier answer: A disease. Question: "
    put = how == "before_question"
    assert found["question"] == (before if put else "") + "Who gets it?"
    assert found["earlier_turns"] == ("before_question" if put else "left_out")
    assert found["ignored"] == ["seed", "system message"]


def test_a_text_of_the_caller_ends_the_answer_and_is_no_part_of_it(answerer: LoadedModel) -> None:
    with serving(CONFIG, answerer) as client:
        text = client.post(CHAT, json=chat("What is gout?")).json()["medqa"]["answer"]
        stop = text[7:10]
        ended = client.post(CHAT, json=chat("What is gout?", stop=["never there", stop])).json()
        streamed = events_of(client.post(CHAT, json=chat("What is gout?", stop=stop, stream=True)).text)
    expected = text[: text.index(stop)]
    assert ended["choices"][0]["message"]["content"] == f"{expected}\n\n{NOTICE}"
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert ended["usage"]["completion_tokens"] < 24
    pieces = [event["choices"][0]["delta"].get("content", "") for event in streamed]
    assert "".join(pieces) == f"{expected}\n\n{NOTICE}"


def test_max_tokens_shortens_and_never_lengthens(answerer: LoadedModel) -> None:
    config = replace(CONFIG, generate=GenerateConfig(max_new_tokens=8, loop_retries=0))
    with serving(config, answerer) as client:
        most = [client.post(CHAT, json=chat("What is gout?", **{key: n})).json()["usage"]["completion_tokens"]
                for key, n in (("max_tokens", 3), ("max_completion_tokens", 5), ("max_tokens", 500))]  # fmt: skip
    assert most == [3, 5, 8]


def test_what_fails_in_the_model_is_one_error_and_the_next_question_is_answered(
    answerer: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = engines.decode, [MedqaError("not finite", ""), RuntimeError("secret question"), None, None]

    def failing(*given: Any) -> None:
        if (fault := faults.pop(0)) is not None:
            raise fault
        real(*given)

    monkeypatch.setattr(engines, "decode", failing)
    with serving(CONFIG, answerer) as client:
        broken = client.post(CHAT, json=chat("What is gout?"))
        streamed = client.post(CHAT, json=chat("What is gout?", stream=True))
        right = client.post(CHAT, json=chat("What is gout?"))
        under_way = client.get("/metrics").text
    assert (broken.status_code, broken.json()["error"]["type"]) == (500, "server_error")
    assert "not finite" in broken.json()["error"]["message"]
    assert '"error"' in streamed.text
    assert right.status_code == 200
    assert "medqa_requests_under_way 0" in under_way


def test_more_requests_than_allowed_are_refused_and_places_come_back(
    answerer: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, go = engines.decode, threading.Event(), threading.Event()

    def slow(*given: Any) -> None:
        begun.set()
        assert go.wait(30)
        real(*given)

    monkeypatch.setattr(engines, "decode", slow)
    config = replace(CONFIG, serve=ServeConfig(max_requests=1))
    with serving(config, answerer) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, CHAT, json=chat("What is gout?"))
        assert begun.wait(30)
        refused = client.post(CHAT, json=chat("What is flu?", stream=True))
        go.set()
        assert first.result().status_code == 200
        again = client.post(CHAT, json=chat("What is flu?", stream=True))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert again.status_code == 200


def test_nothing_of_a_question_is_in_metrics_or_output(
    answerer: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_book_config(tmp_path), answerer) as client:
        for question in ("Has Zelda Quimby gout?", EMERGENCY, ""):
            client.post(CHAT, json=chat(question, medqa={"anyway": True}))
        client.get("/secret-Quimby")
        metrics = client.get("/metrics").text
    printed = capsys.readouterr()
    assert re.search("quimby|zelda|father|gout", metrics + printed.out + printed.err, re.IGNORECASE) is None
    assert 'medqa_responses_total{path="/v1/chat/completions",status="200"} 2' in metrics
    assert 'medqa_responses_total{path="/v1/chat/completions",status="400"} 1' in metrics
    assert 'medqa_responses_total{path="other",status="404"} 1' in metrics
    assert "medqa_emergency_notices_total 1" in metrics
    assert 'medqa_first_text_seconds_bucket{le="+Inf"} 2' in metrics


def test_the_page_allows_its_own_script_and_style_and_nothing_else(answerer: LoadedModel) -> None:
    with serving(CONFIG, answerer) as client:
        response = client.get("/")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
    assert NOTICE in response.text
    assert "Report" not in response.text  # no file for it
    assert re.search(r"""(src|href)=["'](?!data:,)""", response.text) is None


def test_a_caller_who_leaves_frees_the_model_and_the_place(
    answerer: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application is called as a server calls it; the connection ends after the second piece."""
    config = replace(CONFIG, generate=GenerateConfig(max_new_tokens=400, loop_retries=50))
    real, states, left = engines.decode, [], threading.Event()

    def noted(model: Any, prompts: Any, given: Any, settings: Any, follow: Any) -> None:
        states.extend(given)

        def slow(row: int) -> None:
            follow(row)
            if len(given[row].ids) > 20:
                assert left.wait(30)

        real(model, prompts, given, settings, slow)

    monkeypatch.setattr(engines, "decode", noted)
    service, metrics = Service(config, "base", answerer, AskOptions()), Metrics()
    app = Server(service, config, NAME, metrics).app
    body = json.dumps(chat("What is gout?", stream=True)).encode()
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(),
             "query_string": b"", "headers": headers, "scheme": "http", "root_path": "",
             "asgi": {"version": "3.0", "spec_version": "2.3"}}  # fmt: skip
    sent: list[Any] = []

    async def run() -> None:
        gone = anyio.Event()
        incoming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 4:
                gone.set()

        await app(scope, receive, send)

    anyio.run(run)
    left.set()
    service.close()  # waits for what the model is at
    assert metrics.under_way == 0
    (state,) = states
    assert state.finish_reason == "length"
    assert len(state.ids) <= 22
