"""Chat templates that print the date, open a block of thoughts or drop the system line: one prompt, on every day."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Self

import pytest
from transformers.utils import chat_template_utils

from helpers.models import CHATML, chat_prompt_ids, make_chatml_tokenizer
from medqa_cli import confined
from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.prompt import rendering
from medqa_cli.prompt.chat_template import install_chat_template
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.template import closed_thoughts, pin_template, prompt_notes

pytestmark = pytest.mark.usefixtures("unconfined")

HEAD = "<|im_start|>assistant\n"
OPENS_THOUGHTS = CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}")
# As in Qwen3: without the switch the model thinks first.
HAS_SWITCH = CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)
# As in Llama 3.2 and gpt-oss: the date in two forms.
PRINTS_DATE = (
    "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% else %}{% set day = '?' %}{% endif %}"
    "{{ '<|im_start|>system\nToday is ' + day + ', ' + strftime_now(\"%Y-%m-%d\") + '<|im_end|>\n' }}" + CHATML
)
DROPS_SYSTEM = CHATML.replace("for message in messages", "for message in messages if message['role'] != 'system'")
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)


def tokenizer_with(template: str) -> Any:
    tokenizer = make_chatml_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def text_of(template: str, system: str | None = "Be brief.") -> Any:
    return make_contract(PromptConfig(template="chat", system=system), tokenizer_with(template)).text


@pytest.mark.parametrize(
    ("template", "system"),
    [
        (OPENS_THOUGHTS, "Be brief."),
        (HAS_SWITCH, None),
        (PRINTS_DATE, "Be brief."),
        (PRINTS_DATE, None),
        (DROPS_SYSTEM, "Be brief."),
        (REFUSES_SYSTEM, "Be brief."),
    ],
)
def test_the_saved_chat_template_gives_the_trained_ids_on_another_day(
    monkeypatch: pytest.MonkeyPatch, template: str, system: str | None
) -> None:
    config, tokenizer = PromptConfig(template="chat", system=system), tokenizer_with(template)
    trained = PromptEncoder(make_contract(config, tokenizer), tokenizer).encode_prompt("What is gout?")
    assert install_chat_template(tokenizer, make_contract(config, tokenizer))

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return cls(2031, 5, 6)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    # Of the other tools, of a training run that goes on, and of one that starts from the saved tokenizer.
    assert chat_prompt_ids(tokenizer, [{"role": "user", "content": "What is gout?"}]) == trained
    for again in (tokenizer_with(template), tokenizer):
        assert PromptEncoder(make_contract(config, again), again).encode_prompt("What is gout?") == trained


def test_the_date_is_pinned_in_each_of_its_forms() -> None:
    assert text_of(PRINTS_DATE).before_question.startswith(
        "<|im_start|>system\nToday is 26 Jul 2024, 2024-07-26<|im_end"
    )
    assert pin_template(pin_template(PRINTS_DATE)) == pin_template(PRINTS_DATE)
    assert pin_template(CHATML) == CHATML


@pytest.mark.parametrize("template", [OPENS_THOUGHTS, HAS_SWITCH])
def test_the_answer_stands_behind_the_thoughts(template: str) -> None:
    assert text_of(template).after_question == f"<|im_end|>\n{HEAD}<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("prompt", "closed"),
    [
        ("A<think>\n", "\n</think>\n\n"),
        ("A<think>", "\n\n</think>\n\n"),
        ("A[THINK]", "\n\n[/THINK]\n\n"),
        ("A<seed:think>\n", "\n</seed:think>\n\n"),
        ("A<|START_THINKING|>", "\n\n<|END_THINKING|>\n\n"),
        ("A<|begin_of_thought|>\n", "\n<|end_of_thought|>\n\n"),
        ("A<think>\n\n</think>\n\n", ""),
        ("I think>", ""),
        ("<|im_start|>assistant\n", ""),
    ],
)
def test_open_blocks_of_thoughts_are_closed(prompt: str, closed: str) -> None:
    assert closed_thoughts(prompt) == closed


@pytest.mark.parametrize("template", [DROPS_SYSTEM, REFUSES_SYSTEM])
def test_a_system_line_without_a_place_stands_before_the_question(template: str) -> None:
    assert text_of(template).before_question == "<|im_start|>user\nBe brief.\n\n"
    assert text_of(template, None).before_question == "<|im_start|>user\n"


def test_a_template_that_refuses_every_question_has_a_hint_that_helps() -> None:
    with pytest.raises(InputError, match="refuses a plain question: never") as caught:
        text_of("{{ raise_exception('never') }}", None)
    assert caught.value.hint == "set prompt.template to llama2, alpaca or plain"


def test_a_template_that_does_not_end_is_told_apart_from_a_file_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "call", confined.call)
    monkeypatch.setattr(rendering, "_LIMITS", replace(rendering._LIMITS, seconds=0.5))
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(InputError, match=r"chat template cannot be rendered: nothing came out of it in 0\.5 seconds"):
        text_of(endless, None)


def test_what_is_not_the_templates_own_is_told() -> None:
    def notes(template: str) -> str:
        return "; ".join(prompt_notes(PromptConfig(template="chat", system="Be brief."), tokenizer_with(template)))

    assert notes(CHATML) == ""
    assert "prints today's date; it is pinned to 2024-07-26" in notes(PRINTS_DATE)
    assert "it is off (enable_thinking=False)" in notes(HAS_SWITCH)
    assert "opens a block of thoughts before the answer; it is closed" in notes(OPENS_THOUGHTS)
    assert "has no place for prompt.system: it stands at the beginning" in notes(DROPS_SYSTEM)
