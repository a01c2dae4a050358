"""The conversation at the terminal, driven line by line: its commands, what Ctrl-C stops, what is written."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medqa_cli import console
from medqa_cli.answering.generate import asked_of
from medqa_cli.answering.repl import Conversation
from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.prompt.given import Given, Turn
from medqa_cli.prompt.template import make_prompt_text
from medqa_cli.prompt.text import EarlierText

TEXT = make_prompt_text(PromptConfig(template="plain"))


class Partner:
    """Stands for the model and the library; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done: list[Any] = []
        self.given: list[Given] = []
        self.learned_turns = False

    def answer(self, question: str, given: Given) -> dict[str, Any]:
        self.given.append(given)
        if not self.learned_turns:
            question, _ = asked_of(TEXT, question, given)
        self.asked.append(question)
        if question == "stop me":
            raise KeyboardInterrupt
        if question == "too long":
            raise InputError("the question makes a prompt of 9 tokens, but the model's context is 8 tokens")
        return {"question": question, "answer": f"About {question}"}

    def sources(self, question: str, count: int) -> None:
        self.done.append(("sources", question, count))

    def model(self, name: str) -> str:
        self.done.append(("model", name))
        return "base answers"

    def change(self, key: str, value: str) -> str:
        if key != "temperature":
            raise InputError(f"unknown key generate.{key}")
        self.done.append(("set", key, value))
        return f"generate.{key} is {value}"


def talk(*lines: str | type[BaseException], learned_turns: bool = False) -> tuple[Partner, Conversation]:
    """Type the lines, an exception being Ctrl-C or Ctrl-D; the end of the lines is Ctrl-D."""
    console.use_json(False)
    partner = Partner()
    partner.learned_turns = learned_turns
    conversation = Conversation(
        partner.answer,
        lambda: replace(
            TEXT, earlier=EarlierText("", "", "", "", 1000) if learned_turns else None, context=learned_turns
        ),
        partner.sources,
        partner.model,
        partner.change,
        follows=learned_turns,
    )
    typed: Iterator[str | type[BaseException]] = iter(lines)

    def read(prompt: str) -> str:
        line = next(typed, EOFError)
        if isinstance(line, str):
            return line
        raise line

    conversation.run(read)
    assert next(typed, None) is None or "/exit" in lines
    return partner, conversation


def test_each_question_stands_alone() -> None:
    partner, conversation = talk("What is gout?", "  ", "  And asthma? ")
    assert partner.asked == ["What is gout?", "And asthma?"]
    assert [each["answer"] for each in conversation.said] == ["About What is gout?", "About And asthma?"]


def test_follow_puts_the_last_answer_before_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    partner, conversation = talk("/follow", "What is gout?", "Is it painful?", "Is it rare?", "/follow", "And asthma?")
    second = "Earlier question: What is gout? Earlier answer: About What is gout? Question: Is it painful?"
    third = f"Earlier question: Is it painful? Earlier answer: About {second} Question: Is it rare?"
    assert partner.asked == ["What is gout?", second, third, "And asthma?"]
    assert [each["question"] for each in conversation.said][1:3] == ["Is it painful?", "Is it rare?"]
    assert "trained on single questions" in capsys.readouterr().err


def test_follow_leaves_out_the_marks_of_the_last_answers_sources() -> None:
    partner, _ = talk("/follow", "What is gout [2]?", "Is it rare?")
    assert (
        partner.asked[1]
        == "Earlier question: What is gout [2]? Earlier answer: About What is gout? Question: Is it rare?"
    )


def test_a_model_that_learned_conversations_follows_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    questions = ("What is gout?", "Is it painful?", "Is it rare?")
    partner, _ = talk(*questions, "/new", "And asthma?", "/follow", "Why?", "/follow", "How?", learned_turns=True)
    said = [Turn(question, f"About {question}") for question in questions]
    assert [given.earlier for given in partner.given[:4]] == [(), tuple(said[:1]), tuple(said[:2]), ()]
    assert partner.given[4].earlier == ()
    assert [turn.question for turn in partner.given[5].earlier] == ["And asthma?", "Why?"]
    assert "the next question stands alone" in (said_now := capsys.readouterr().err)
    assert "single questions" not in said_now


def test_a_context_stands_before_the_next_questions() -> None:
    partner, _ = talk("/context A man of 60.", "Why?", "How?", "/context", "What?", learned_turns=True)
    assert [given.context for given in partner.given] == ["A man of 60.", "A man of 60.", ""]


def test_a_context_for_a_model_that_learned_none_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    partner, _ = talk("/context A man of 60.", "Why?")
    assert "trained without contexts" in capsys.readouterr().err
    assert [given.context for given in partner.given] == [""]  # the next question is answered


def test_ctrl_c_stops_the_answer_and_not_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    partner, conversation = talk("stop me", KeyboardInterrupt, "What is gout?")
    assert partner.asked == ["stop me", "What is gout?"]
    assert len(conversation.said) == 1
    assert "stopped" in capsys.readouterr().err


def test_exit_ends_it() -> None:
    partner, _ = talk("/exit", "What is gout?")
    assert partner.asked == []


def test_the_commands_reach_their_work(capsys: pytest.CaptureFixture[str]) -> None:
    partner, _ = talk("What is gout?", "/sources", "/sources 5", "/model base", "/model", "/set temperature 0.3")
    assert partner.done == [
        ("sources", "What is gout?", 3),
        ("sources", "What is gout?", 5),
        ("model", "base"),
        ("model", ""),
        ("set", "temperature", "0.3"),
    ]
    said = capsys.readouterr()
    assert "generate.temperature is 0.3" in said.err
    assert said.out.strip() == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/sauces", "no command /sauces"),
        ("/sources", "nothing has been asked yet"),
        ("/save", "/save needs the name of one file"),
        ("/save a.jsonl", "nothing has been asked yet"),
        ("/set temperature", "/set needs a key and a value"),
        ("/set color red", "unknown key generate.color"),
        ("too long", "the question makes a prompt of 9 tokens, but the model's context is 8 tokens"),
    ],
)
def test_a_mistake_is_told_and_the_conversation_goes_on(
    capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    partner, _ = talk(line, "What is gout?")
    assert partner.asked[-1] == "What is gout?"
    assert f"error: {said}" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_wrong_number_of_sources(capsys: pytest.CaptureFixture[str], count: str) -> None:
    partner, _ = talk("What is gout?", f"/sources {count}")
    assert partner.done == []
    assert "takes a number" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    talk("/help")
    shown = capsys.readouterr().err
    missing = [
        name for name in ("/follow", "/sources", "/model", "/set", "/save", "/help", "/exit") if name not in shown
    ]
    assert missing == []


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.chdir(tmp_path)
    return lambda: sorted(path.name for path in tmp_path.iterdir())


def test_nothing_is_written_unless_asked_for(in_folder: Callable[[], list[str]]) -> None:
    talk("What is gout?", "/sources", "/model")
    assert in_folder() == []


def test_save_writes_what_was_said(in_folder: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    talk("What is Ménière?", "Why?", "/save 'my talk.jsonl'", "/save 'my talk.jsonl'")
    assert in_folder() == ["my talk.jsonl"]
    lines = Path("my talk.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["What is Ménière?", "Why?"]
    assert "my talk.jsonl is already there" in capsys.readouterr().err
