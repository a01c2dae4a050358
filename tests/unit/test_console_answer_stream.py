"""An answer on the screen: wrapped at words on a terminal, untouched in a pipe."""

import io
import os
import shutil
import sys

import pytest

from medqa_cli import console

TEXT = "Glaucoma is treated with eye drops, laser\nor surgery.\n\n- one  two\n- Ménière 日本語日本語日本語"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(monkeypatch: pytest.MonkeyPatch, target: io.StringIO, pieces: list[str], width: int = 20) -> str:
    monkeypatch.setattr(sys, "stdout", target)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    shown = console.AnswerStream()
    for piece in pieces:
        shown.write(piece)
    shown.end()
    return target.getvalue()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_pipe_gets_the_text_as_it_is(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    assert show(monkeypatch, io.StringIO(), pieces) == TEXT + "\n"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_terminal_gets_whole_words_on_each_line(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    assert show(monkeypatch, Terminal(), pieces).split("\n") == [
        "Glaucoma is treated",
        "with eye drops,",
        "laser",
        "or surgery.",
        "",
        "- one  two",
        "- Ménière 日本語日本",
        "語日本語",
        "",
    ]


def test_a_word_longer_than_the_line_is_left_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(monkeypatch, Terminal(), ["a ", "b" * 50, " c"]) == "a\n" + "b" * 50 + "\nc\n"


def test_a_window_that_is_resized_counts_from_the_next_word(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Terminal()
    monkeypatch.setattr(sys, "stdout", target)
    widths = iter([20, 20, 20, 8, 8, 8])
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((next(widths), 24)))
    shown = console.AnswerStream()
    shown.write("aaa bbb ccc ddd eee fff ")
    shown.end()
    assert target.getvalue() == "aaa bbb ccc\nddd eee\nfff\n"


def test_control_characters_of_a_model_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in show(monkeypatch, Terminal(), ["a \x1b[2J", "\x07 b"])
    assert show(monkeypatch, Terminal(), ["a\x07 b"]) == "a\ufffd b\n"
