"""Bodies of OpenAI's API: what is read, what is refused with which status, what is named as without effect."""

import json
from dataclasses import replace
from typing import Any

import pytest

from medqa_cli.answering.emergencies import ONLY_ENGLISH, PERHAPS_NOT_ENGLISH, emergency_notices
from medqa_cli.answering.generate import NOTICE
from medqa_cli.answering.open_book import NOTHING_ANSWERS, NOTHING_NEAR, REVIEWED_NOTICE
from medqa_cli.config.schema import Config, GenerateConfig, PromptConfig, ServeConfig
from medqa_cli.prompt.given import Given, Turn
from medqa_cli.prompt.template import make_prompt_text
from medqa_cli.prompt.text import EarlierText
from medqa_cli.serving.requests import SOURCES, AnswerRequest, ApiError, parse, read_json

CONFIG = Config(generate=GenerateConfig(max_new_tokens=100, temperature=0.0, top_p=0.9))
TEXT = make_prompt_text(PromptConfig(template="plain"))
# Of a model that learned conversations and contexts.
TALKS = replace(TEXT, earlier=EarlierText("", "", "", "", 100), context=True)
USER = {"role": "user", "content": "What is gout?"}


def ask(**body: Any) -> AnswerRequest:
    return parse({"model": "m", "messages": [USER], **body}, CONFIG, "m", TEXT, is_chat=True)


def refused(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask(**body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "What is gout?"}, "messages"),
        ({"messages": ["What is gout?"]}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "include_usage"),
        ({"stop": ""}, "stop"),
        ({"stop": {}}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a" * 201]}, "stop"),
        ({"stop": [None]}, "stop"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"medqa": {"conten": "answer"}}, "medqa"),
        ({"medqa": []}, "medqa"),
        ({"medqa": {"content": "all"}}, "medqa"),
        ({"medqa": {"anyway": "yes"}}, "anyway"),
        ({"model": None}, "model"),
    ],
)
def test_a_wrong_body_is_refused_by_the_name_of_its_key(body: dict[str, Any], param: str) -> None:
    error = refused(**body)
    assert (error.status, error.param) == (400, param)
    assert error.as_json()["error"].keys() == {"message", "type", "param", "code"}


def test_another_model_is_not_found() -> None:
    error = refused(model="gpt-4")
    assert (error.status, error.code) == (404, "model_not_found")
    assert "m" in error.message.split()


def test_where_a_request_is_silent_the_config_decides_and_its_limit_holds() -> None:
    assert ask().settings == CONFIG.generate
    found = ask(max_tokens=7, max_completion_tokens=5, temperature=1, top_p=0.5).settings
    assert (found.max_new_tokens, found.temperature, found.top_p) == (5, 1.0, 0.5)
    assert ask(max_tokens=10**400).settings.max_new_tokens == 100


def test_neutral_values_and_parts_of_text_are_taken_and_the_rest_is_named() -> None:
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "gout?"}]
    found = ask(
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
        n=1, tools=[], response_format={"type": "text"}, logprobs=False, user="u", presence_penalty=0.5, seed=None,
    )  # fmt: skip
    assert found.question == "What is\ngout?"
    assert found.ignored == ("user", "presence_penalty", "developer message")


def test_names_without_effect_are_bounded() -> None:
    found = ask(**{f"{'x' * 500}{number}": 1 for number in range(100)})
    assert sum(map(len, found.ignored)) <= 20 * 60
    # No response can hold half a character.
    assert parse(
        read_json(b'{"model": "m", "prompt": "x", "\\ud800": 1}'), CONFIG, "m", TEXT, is_chat=False
    ).ignored == ("\ufffd",)


def test_a_question_that_is_too_long_is_refused_with_the_turns_before_it() -> None:
    config = replace(CONFIG, serve=ServeConfig(max_question_characters=50, earlier_turns="before_question"))
    parse({"model": "m", "messages": [USER]}, config, "m", TEXT, is_chat=True)
    turns = [USER, {"role": "assistant", "content": "A disease of joints."}, USER]
    with pytest.raises(ApiError) as caught:
        parse({"model": "m", "messages": turns}, config, "m", TEXT, is_chat=True)
    assert caught.value.code == "context_length_exceeded"


def test_lone_surrogates_become_a_sign_that_a_tokenizer_takes() -> None:
    body = read_json(json.dumps({"model": "m", "messages": [{"role": "user", "content": "a\ud800b"}]}).encode())
    assert parse(body, CONFIG, "m", TEXT, is_chat=True).question == "a\ufffdb"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[1]", b"null", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe{}"),
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_of_json_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("prompt", [None, 3, [1, 2, 3], ["a", "b"], " ", [""]])
def test_a_prompt_that_is_not_one_text_is_refused(prompt: Any) -> None:
    with pytest.raises(ApiError) as caught:
        parse({"model": "m", "prompt": prompt}, CONFIG, "m", TEXT, is_chat=False)
    assert (caught.value.status, caught.value.param) == (400, "prompt")


SAID = [USER, {"role": "assistant", "content": "A disease [1] of\njoints."}]
LAST = {"role": "user", "content": "Who gets it?"}


def asked_of_talks(*messages: Any, text: Any = TALKS, **serve: Any) -> AnswerRequest:
    config = replace(CONFIG, serve=ServeConfig(**serve))
    return parse({"model": "m", "messages": list(messages)}, config, "m", text, is_chat=True)


def test_earlier_turns_stand_before_the_question_as_they_were_learned() -> None:
    context = {"role": "system", "content": "A man,  60.\n\n\n\nBlind."}
    found = asked_of_talks(context, *SAID, *SAID, LAST)
    assert (found.question, found.typed) == ("Who gets it?", "Who gets it?")
    turn = Turn("What is gout?", "A disease [1] of\njoints.")
    assert found.given == Given((turn, turn), "A man, 60.\n\nBlind.")
    assert (found.earlier_turns, found.ignored) == ("before_question", ())


@pytest.mark.parametrize("notice", [NOTICE, REVIEWED_NOTICE])
@pytest.mark.parametrize("more", ["", ONLY_ENGLISH, f"{PERHAPS_NOT_ENGLISH}\n"])
@pytest.mark.parametrize("sources", ["", f"{SOURCES}[1] r1: Gout"])
def test_an_earlier_answer_is_read_without_its_sources_and_notices(notice: str, more: str, sources: str) -> None:
    (emergency,) = emergency_notices("My father's face is drooping, what now?")
    said = {"role": "assistant", "content": f"{emergency}\n\nA disease [1].{sources}\n\n{notice}{more}"}
    assert asked_of_talks(USER, said, LAST).given.earlier == (Turn("What is gout?", "A disease [1]."),)


@pytest.mark.parametrize("notice", [NOTHING_NEAR, NOTHING_ANSWERS])
@pytest.mark.parametrize("more", ["", ONLY_ENGLISH])
def test_a_turn_that_no_answer_was_given_to_is_no_earlier_turn(notice: str, more: str) -> None:
    found = asked_of_talks(USER, {"role": "assistant", "content": f"{notice}{more}"}, *SAID, LAST)
    assert found.given.earlier == (Turn("What is gout?", "A disease [1] of\njoints."),)
    assert found.ignored == ("a message without its question or answer",)


def test_the_config_may_leave_them_out() -> None:
    found = asked_of_talks(*SAID, LAST, earlier_turns="leave_out")
    assert (found.given, found.earlier_turns) == (Given(), "left_out")


def test_a_model_that_learned_single_questions_gets_what_it_got() -> None:
    found = asked_of_talks(*SAID, LAST, text=TEXT)
    assert (found.question, found.given, found.earlier_turns) == ("Who gets it?", Given(), "left_out")
    found = asked_of_talks(*SAID, LAST, text=TEXT, earlier_turns="before_question")
    assert found.question == (
        "Earlier question: What is gout? Earlier answer: A disease of\njoints. Question: Who gets it?"
    )
    assert (found.given, found.earlier_turns) == (Given(), "before_question")
    half = asked_of_talks(USER, LAST, text=TEXT, earlier_turns="before_question")
    assert half.question == "Earlier question: What is gout? Earlier answer:  Question: Who gets it?"


@pytest.mark.parametrize("more", [[SAID[1]], [USER], [{"role": "assistant", "content": " "}]])
def test_a_message_without_its_partner_is_left_out_and_named(more: list[Any]) -> None:
    found = asked_of_talks(*more, *SAID, LAST)
    assert len(found.given.earlier) == 1
    assert found.ignored == ("a message without its question or answer",)


def test_turns_beyond_the_limit_of_characters_are_left_out_and_named() -> None:
    found = asked_of_talks(*SAID, *SAID, *SAID, LAST, max_question_characters=80)
    assert len(found.given.earlier) == 2
    assert found.ignored == ("1 earlier turns, beyond 80 characters",)
    with pytest.raises(ApiError, match="more than 80 characters"):
        asked_of_talks({"role": "system", "content": "x" * 81}, LAST, max_question_characters=80)
