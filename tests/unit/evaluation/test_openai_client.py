"""A model behind OpenAI's protocol: what it is asked, what its answers become, and what is said when it fails."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation import openai_client
from medqa_cli.evaluation.openai_client import ServedModel, connect, served_answers
from medqa_cli.evaluation.samples import GeneratedAnswer
from medqa_cli.journal import SharedJournal
from medqa_cli.prompt.given import NOTHING, Given, Turn


class Server(ThreadingHTTPServer):
    """Remembers what it was asked; ``reply`` makes the body of an answer from a question."""

    request_queue_size = 64  # a busy machine accepts late, and five waiting are not enough

    asked: list[dict[str, Any]]
    keys: list[str | None]
    wanted_key: str | None
    models: Any
    reply: Callable[[str], Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        if self.server.wanted_key not in (None, self.headers["Authorization"]):
            self.answer(401, {"error": "no key"})
        elif self.path.startswith("/old/"):
            self.send_response(302)
            self.send_header("Location", self.server.url + "/models")
            self.end_headers()
        else:
            self.answer(200, self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        if self.path != "/v1/chat/completions":
            self.answer(404, {"error": "no such path"})
        else:
            self.answer(200, self.server.reply(body["messages"][-1]["content"]))

    def answer(self, code: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: str | None, reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": reason}], "usage": {"completion_tokens": 7}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server(("127.0.0.1", 0), Handler)
    running.asked, running.keys, running.wanted_key = [], [], None
    running.models = {"data": [{"id": "tiny"}]}
    running.reply = lambda question: completion(
        f" It is {question[8:-1]}. ", "length" if "gout" in question else "stop"
    )
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_of_medqas_own_server_the_answer_is_taken_without_its_notices_and_sources(
    server: Server, tmp_path: Path
) -> None:
    server.reply = lambda question: completion("Urgent!\n\nGout.\n\nSources:\n[1] r1") | {"medqa": {"answer": "Gout."}}
    with SharedJournal(tmp_path, 1) as journal:
        (answer,) = served_answers(connect(f"openai:{server.url}", None), ["What?"], GenerateConfig(), journal)
    assert answer.text == "Gout."


def test_questions_and_answers_keep_their_order_and_are_asked_once(server: Server, tmp_path: Path) -> None:
    questions = [f"What is {name}{n}?" for n in range(20) for name in ("gout", "mumps")]
    served = connect(f"openai:{server.url}/", "Be brief.")
    assert served == ServedModel(server.url, "tiny", "Be brief.")
    for _ in range(2):
        with SharedJournal(tmp_path, 1) as journal:
            answers = served_answers(served, questions, GenerateConfig(max_new_tokens=9), journal)
        assert answers[:2] == [
            GeneratedAnswer("It is gout0.", "length", 7),
            GeneratedAnswer("It is mumps0.", "stop", 7),
        ]
        assert [answer.text for answer in answers] == [f"It is {question[8:-1]}." for question in questions]
    assert len(server.asked) == 40
    first = next(body for body in server.asked if body["messages"][-1]["content"] == questions[0])
    assert first == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is gout0?"}],
        "temperature": 0,
        "max_tokens": 9,
    }


def test_a_named_model_without_a_system_line(server: Server, tmp_path: Path) -> None:
    served = connect(f"openai:{server.url}#large", None)
    server.reply = lambda question: completion(None)
    with SharedJournal(tmp_path, 1) as journal:
        assert served_answers(served, ["What is gout?"], GenerateConfig(), journal) == [GeneratedAnswer("", "stop", 7)]
    assert [(body["model"], len(body["messages"])) for body in server.asked] == [("large", 1)]


def test_without_usage_the_number_of_tokens_is_unknown_and_not_zero(server: Server, tmp_path: Path) -> None:
    server.reply = lambda question: {key: value for key, value in completion("Gout.").items() if key != "usage"}
    served = connect(f"openai:{server.url}", None)
    with SharedJournal(tmp_path, 1) as journal:
        assert (
            served_answers(served, ["a", "b"], GenerateConfig(), journal)
            == [GeneratedAnswer("Gout.", "stop", None)] * 2
        )


def test_what_fails_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the address of a server"):
        connect("openai:tiny", None)
    with pytest.raises(InputError, match="refused: 404"), SharedJournal(tmp_path, 1) as journal:
        served_answers(ServedModel(f"{server.url}/v2", "tiny", None), ["What?"], GenerateConfig(), journal)
    server.reply = lambda question: {"choices": []}
    with pytest.raises(MedqaError, match="not in OpenAI's form"), SharedJournal(tmp_path, 1) as journal:
        served_answers(ServedModel(server.url, "tiny", None), ["What?"], GenerateConfig(), journal)
    with pytest.raises(InputError, match=r"nothing answers at http://127\.0\.0\.1:9/v1/models"):
        connect("openai:http://127.0.0.1:9/v1", None)


def test_a_server_that_wants_a_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.wanted_key = "Bearer own"
    monkeypatch.setenv("OPENAI_API_KEY", "of another address")
    with pytest.raises(InputError, match="refused: 401") as caught:
        connect(f"openai:{server.url}", None)
    assert caught.value.hint == "set the variable MEDQA_API_KEY to its key"
    monkeypatch.setenv("MEDQA_API_KEY", "own")
    assert connect(f"openai:{server.url}", None).model == "tiny"
    assert server.keys == [None, "Bearer own"]


def test_a_key_does_not_follow_a_redirection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDQA_API_KEY", "own")
    assert connect(f"openai:{server.url.removesuffix('/v1')}/old", None).model == "tiny"
    assert server.keys == ["Bearer own", None]


@pytest.mark.parametrize("models", [{"data": []}, {"object": "list"}, [], None])
def test_a_server_that_lists_no_model(server: Server, models: Any) -> None:
    server.models = models
    with pytest.raises(InputError, match=f"{server.url}/models lists no model") as caught:
        connect(f"openai:{server.url}", None)
    assert caught.value.hint == f"name one: openai:{server.url}#MODEL"


def test_a_web_page_is_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "dumps", lambda body: "<!doctype html>")
    with pytest.raises(InputError, match=f"{server.url}/models did not answer in JSON") as caught:
        connect(f"openai:{server.url}", None)
    assert caught.value.hint == "name the address that ends in /v1"


def test_the_command_needs_data_but_no_adapter(
    server: Server, tmp_path: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        own = [
            {"id": f"{split}{n}", "question": f"What is disease {n}?", "answer": f"It is disease {n}."}
            | {"topic": f"disease {n}", "source": "a"}
            for n in range(8)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, own)) + "\n", encoding="utf-8")
    options = ("--set", "data.dir=.", "--set", "eval.bootstrap_draws=100", "--json", "--model", f"openai:{server.url}")
    outcome = medqa("eval", *options, "--fail-on", "served.rougeL < 0.9")
    assert outcome.code == 0, outcome.err
    assert "not measured for the served model" in outcome.err
    results = json.loads(outcome.out)
    assert results["models"]["served"]["rougeL"]["value"] == pytest.approx(1)
    assert "nll" not in results["models"]["served"]
    assert results["floors"]["wrong_topic"]["rougeL"]["value"] < 0.9
    assert "unigram" not in results["floors"]
    wrong = medqa("eval", *options, "--set", "eval.metrics=[nll]")
    assert wrong.code == 2
    assert "only answers can be measured" in wrong.err


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (completion("x" * 200_000), "an answer of 200,000 characters, though at most 512 tokens were asked for"),
        ({**completion("x"), "usage": {"completion_tokens": float("inf")}}, "not in OpenAI's form"),
        ({**completion("x"), "usage": [1]}, "not in OpenAI's form"),
        ({"choices": [{"message": {"content": ["x"]}, "finish_reason": "stop"}]}, "not in OpenAI's form"),
        ("x" * (1 << 23), "answers with more than 8,388,608 bytes"),
    ],
)
def test_answers_that_are_none(server: Server, tmp_path: Path, reply: Any, said: str) -> None:
    server.reply = lambda question: reply
    with pytest.raises(MedqaError, match=said), SharedJournal(tmp_path, 1) as journal:
        served_answers(ServedModel(server.url, "tiny", None), ["What is gout?"], GenerateConfig(), journal)


def test_half_letters_become_the_replacement_character(server: Server, tmp_path: Path) -> None:
    server.reply = lambda question: completion("a \ud83d\ude00 b \ud800")
    with SharedJournal(tmp_path, 1) as journal:
        answers = served_answers(ServedModel(server.url, "tiny", None), ["What is gout?"], GenerateConfig(), journal)
    assert answers[0].text == "a \U0001f600 b \ufffd"


def test_a_redirect_to_another_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "url", "http://localhost:9/v1")
    with pytest.raises(InputError, match="redirects to another address: http://localhost:9/v1/models"):
        connect(f"openai:http://127.0.0.1:{server.server_address[1]}/old", None)


def test_a_server_that_begins_and_never_ends_is_left(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_client, "SECONDS_TO_END", 0.2)
    ended = threading.Event()

    def drip(handler: Handler, code: int, body: Any) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        ended.wait(20)

    monkeypatch.setattr(Handler, "answer", drip)
    with pytest.raises(InputError, match="did not finish its answer in time"), SharedJournal(tmp_path, 1) as journal:
        served_answers(ServedModel(server.url, "tiny", None), ["What is gout?"], GenerateConfig(), journal)
    ended.set()


def test_an_error_ends_the_calls_that_still_wait(server: Server, tmp_path: Path) -> None:
    """As Ctrl-C does: the program must not wait ten minutes for threads that wait for a server."""
    ended = threading.Event()

    def reply(question: str) -> Any:
        if question == "bad":
            return []
        ended.wait(60)
        return completion("late")

    server.reply = reply
    with pytest.raises(MedqaError, match="not in OpenAI's form"), SharedJournal(tmp_path, 1) as journal:
        served_answers(ServedModel(server.url, "tiny", None), ["bad", "slow"], GenerateConfig(), journal)
    assert not ended.is_set()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")] == []
    ended.set()


def test_earlier_turns_are_sent_as_messages_and_a_context_before_the_first_question(
    server: Server, tmp_path: Path
) -> None:
    given = Given((Turn("What is gout?", "A disease."),), "A man of 60.")
    with SharedJournal(tmp_path, 1) as journal:
        served_answers(
            ServedModel(server.url, "tiny", "Be brief."), ["Why?", "Why?"], GenerateConfig(), journal, [given, NOTHING]
        )
    assert sorted((body["messages"][1:] for body in server.asked), key=len) == [
        [{"role": "user", "content": "Why?"}],
        [
            {"role": "user", "content": "A man of 60.\n\nWhat is gout?"},
            {"role": "assistant", "content": "A disease."},
            {"role": "user", "content": "Why?"},
        ],
    ]
