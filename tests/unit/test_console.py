"""Results go to stdout, all else to stderr; nothing that comes from data or a model controls the terminal."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from medqa_cli import console
from medqa_cli.errors import ConfigError, InputError

MARKUP = "[red]a[/red] [b] [/] [link=x]"
CONTROL = "a\x1b[2Jb\rc\x07d\x9be\x7f"
CLEANED = "a\ufffd[2Jb\ufffdc\ufffdd\ufffde\ufffd"


@pytest.fixture(autouse=True)
def tables() -> None:
    """Whatever an earlier test chose."""
    console.use_json(False)


def test_control_characters_are_replaced() -> None:
    assert console.printable(CONTROL) == CLEANED
    assert console.printable("line\n\ttab Ménière € 😀") == "line\n\ttab Ménière € 😀"
    # Overrides of the direction let 05 be read as 50; what Arabic and Hebrew need stays. Half of a pair has no bytes.
    assert console.printable("\u202e05\u202c mg, \u202d, \u2067ربو\u2069 \ud83d") == (
        "\ufffd05\u202c mg, \ufffd, \u2067ربو\u2069 \ufffd"
    )


# A color, a title, the clipboard (OSC 52), a link (OSC 8), a cleared screen; the last two in one character (C1).
SEQUENCES = (
    "\x1b[31m \x1b]0;t\x07 \x1b]52;c;cm0=\x1b\\ \x1b]8;;http://x\x1b\\ \x9b2J \x9d52;c;cm0=\x9c \x7f \u202e \ud83d"
)


def rules(text: str) -> list[str]:
    """What of a text a terminal would obey, or could not be sent."""
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]", text)


def test_json_on_a_terminal_is_text_and_reads_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(rules(SEQUENCES)) == 13
    console.use_json(True)
    console.result({"answer": SEQUENCES}, lambda: None)
    console.json_lines([{SEQUENCES: 1}, {"Ménière": "😀"}])
    first, second, third = capsys.readouterr().out.splitlines()
    assert rules(first + second) == []
    assert json.loads(first) == {"answer": SEQUENCES}
    assert json.loads(second) == {SEQUENCES: 1}
    assert third == '{"Ménière": "😀"}'


def test_nothing_that_shows_a_text_lets_it_rule_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.table(SEQUENCES, [[SEQUENCES, SEQUENCES]], header=(SEQUENCES, SEQUENCES), alarming=[(0, 1)])
    console.line(SEQUENCES)
    console.side_by_side([SEQUENCES], [SEQUENCES], [SEQUENCES])
    console.stream(SEQUENCES)
    answer = console.AnswerStream()
    answer.write(SEQUENCES)
    answer.end()
    for say, _ in SAYERS.values():
        say(SEQUENCES)
    console.error(ConfigError([SEQUENCES], SEQUENCES))
    shown = capsys.readouterr()
    assert rules(shown.out.replace("\n", "") + shown.err) == []
    assert shown.out.count("\ufffd") > 80
    # Live displays write sequences of their own: what may not come is those of the text.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    with console.progress(SEQUENCES, 2) as bar, console.status(SEQUENCES) as show:
        bar.update(1, SEQUENCES)
        show(SEQUENCES)
    with console.run_display("training", 2) as display:
        display.update(1, [SEQUENCES])
    drawn_over = capsys.readouterr().err
    assert "\ufffd]52;c;" in drawn_over
    for own in ("\x1b]", "\x9b", "\x9d", "\x07", "\x7f", "\u202e", "\ud83d"):
        assert own not in drawn_over


def test_a_result_is_shown_or_json_never_both(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"question": "Ménière?", "n": 1}
    console.result(data, lambda: console.line("shown"))
    assert capsys.readouterr() == ("shown\n", "")
    console.use_json(True)
    assert console.json_enabled()
    console.result(data, lambda: pytest.fail("shown under --json"))
    captured = capsys.readouterr()
    assert captured.out == '{"question": "Ménière?", "n": 1}\n'
    assert json.loads(captured.out) == data
    assert captured.err == ""


def test_results_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.line("a line")
    console.stream("piece ")
    console.stream("by piece")
    assert capsys.readouterr() == ("a line\npiece by piece", "")


SAYERS: dict[str, tuple[Callable[[str], None], str]] = {
    "note": (console.note, ""),
    "warn": (console.warn, "warning: "),
    "error": (lambda text: console.error(InputError(text)), "error: "),
}


@pytest.mark.parametrize("name", SAYERS)
@pytest.mark.parametrize(("text", "expected"), [(MARKUP, MARKUP), (CONTROL, CLEANED), ("x" * 500, "x" * 500)])
def test_all_else_goes_to_stderr(capsys: pytest.CaptureFixture[str], name: str, text: str, expected: str) -> None:
    say, label = SAYERS[name]
    say(text)
    assert capsys.readouterr() == ("", f"{label}{expected}\n")


@pytest.mark.parametrize(("text", "expected"), [(MARKUP, MARKUP), (CONTROL, CLEANED), ("x" * 500, "x" * 500)])
def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], text: str, expected: str) -> None:
    console.line(text)
    assert capsys.readouterr().out == expected + "\n"


def test_a_stream_is_cleaned_and_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    console.stream(MARKUP + CONTROL)
    assert capsys.readouterr().out == MARKUP + CLEANED


def test_an_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(InputError("no file [b]", "try [i]"))
    assert capsys.readouterr() == ("", "error: no file [b]\nhint: try [i]\n")


def test_every_problem_of_a_config_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(ConfigError(["m.yaml:1: a", "m.yaml:2: b"], "see the schema"))
    assert capsys.readouterr().err == "error: m.yaml:1: a\nerror: m.yaml:2: b\nhint: see the schema\n"


def test_a_table_aligns_its_columns_and_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("Title [b]", [["label [i]", "1"], ["b\x1b", "22,000"]], header=("name", "count"))
    captured = capsys.readouterr()
    lines = [line.rstrip() for line in captured.out.splitlines()]
    assert lines == ["Title [b]", "name        count", "label [i]       1", "b\ufffd         22,000", ""]
    assert captured.err == ""


def test_rows_of_a_table_may_be_shorter_than_its_longest(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("T", [["read", "5"], ["kept", "4", "80 %"]])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == ["T", "read  5", "kept  4  80 %", ""]


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert not console.is_live()
    with console.progress("scoring", 3) as bar:
        for done in range(4):
            bar.update(done, "[b]")
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_drawn_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    assert console.is_live()
    with console.progress("scoring", 3) as bar:
        bar.update(2, "loss [b] 1.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "scoring" in captured.err
    assert "2/3" in captured.err
    assert "loss [b] 1.5" in captured.err


CLEARED = "\x1b[2K"


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True

    def take(self) -> str:
        """Return what was written since the last call."""
        written = self.getvalue()
        self.seek(0)
        self.truncate()
        return written


@contextlib.contextmanager
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Let a command run whose stderr is a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stderr(Terminal()) as opened:
        try:
            yield opened
        finally:
            console.end()


def test_a_pipe_is_told_of_long_progress_now_and_then_and_of_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now: float = 0
    monkeypatch.setattr("time.monotonic", lambda: now)
    console.begin()
    console.doing("loading the libraries ...")
    with console.status("loading ..."), console.progress("scoring", 1000) as bar:
        for now in range(0, 101, 10):
            bar.update(10 * int(now), "MiB")
    for name in ("adapter", "base", "merged"):  # each answers in one piece
        with console.progress(f"answering with {name}", 23) as bar:
            now += 20
            bar.update(23)
    console.end()
    assert capsys.readouterr() == (
        "",
        "scoring: 300 of 1,000 MiB, 1:10 left\nscoring: 600 of 1,000 MiB, 0:40 left\n"
        "scoring: 900 of 1,000 MiB, 0:10 left\n"
        "answering with base: 0 of 23\n",
    )


def test_what_was_done_before_is_left_out_of_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    console.begin()
    with console.progress("answering", 100, done=80) as bar:
        now = 30
        bar.update(80)
        now = 60
        bar.update(80.5)  # half an answer in 60 seconds, 19.5 to go
        now = 90
        bar.update(90)
    console.end()
    lines = ["answering: 80 of 100", "answering: 80 of 100, 39:00 left", "answering: 90 of 100, 1:30 left"]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_bar_says_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with at_a_terminal(monkeypatch) as terminal:
        with console.progress("answering", 20, done=10) as bar:
            now = 90
            bar.update(14.5)
        last = terminal.take()
    assert re.search(r"answering .*14/20 .*1:50 left", last)


def test_a_line_says_what_is_done_and_makes_way_for_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_a_terminal(monkeypatch) as terminal:
        console.doing("starting \x1b[2J[b] ...")
        assert "starting \ufffd[2J[b] ..." in terminal.take()
        with console.status("loading ..."):
            assert "loading ..." in terminal.take()
        assert "starting" in terminal.take()
        console.line("first")
        assert capsys.readouterr().out == "first\n"
        # Cleared before, drawn again behind it.
        cleared, _, drawn_again = terminal.take().rpartition("\x1b[1A" + CLEARED)
        assert cleared
        assert "starting" in drawn_again
        console.result({}, lambda: console.line("last"))
        assert terminal.take().endswith(CLEARED)
        with console.status("late ..."):
            pass
        assert terminal.take().endswith(CLEARED)


def test_notes_and_bars_take_the_place_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with at_a_terminal(monkeypatch) as terminal:
        console.doing("measuring ...")
        console.note("a note")
        assert "a note" in terminal.take()
        with console.progress("scoring", 2):
            assert re.search(r"[⠋⠙⠹⠸] scoring ", terminal.take())  # turns while nothing is finished
            console.doing("thinking ...")
            assert "thinking" not in terminal.take()
        assert "thinking" in terminal.take()


def test_the_line_stays_at_its_terminal_while_stderr_leads_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_a_terminal(monkeypatch) as terminal:
        console.doing("checking ...")
        with contextlib.redirect_stderr(io.StringIO()) as elsewhere:
            console.doing("comparing ...")
            console.note("of a model that nobody has")
            with console.status("loading it ..."):
                console.line("checked")
        assert elsewhere.getvalue() == "of a model that nobody has\n"
        assert capsys.readouterr().out == "checked\n"
        shown = terminal.take()
        assert "comparing" in shown
        assert "loading" not in shown


def drawn(width: int, encoding: str = "utf-8") -> list[str]:
    """The lines of a display on a window of this width."""
    display = console.RunDisplay("training", 52)
    display.update(
        26, ["loss 2.512 falling", "validation loss 2.6100 (the best)", "250 tokens/s", "3.41 GiB", "1:12 left"]
    )
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    Console(file=buffer, width=width, force_terminal=True, color_system=None).print(display)
    buffer.seek(0)
    return [line.rstrip() for line in buffer.read().splitlines()]


def test_a_run_on_a_wide_window() -> None:
    bar = "━" * 20 + "─" * 20
    assert drawn(120) == [
        f"training 26/52  50%  0:00  {bar}",
        "loss 2.512 falling   validation loss 2.6100 (the best)   250 tokens/s   3.41 GiB   1:12 left",
    ]


def test_a_run_shows_what_is_done_between_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    with at_a_terminal(monkeypatch), console.status("scoring \x1b[2J ..."):
        assert drawn(120)[-1].endswith("   1:12 left   scoring \ufffd[2J ...")
    assert drawn(120)[-1].endswith("   1:12 left")


def test_a_run_on_a_narrow_window_keeps_each_figure_whole() -> None:
    assert drawn(36) == [
        "training 26/52  50%  0:00  ━━━━─────",
        "loss 2.512 falling",
        "validation loss 2.6100 (the best)",
        "250 tokens/s   3.41 GiB   1:12 left",
    ]
    assert all(len(line) <= 12 for line in drawn(12))


def test_what_is_said_beside_a_run_stands_on_lines_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    with console.run_display("training", 4) as display:
        display.update(1, ["loss 2.5"])
        console.note("step 1/4: validation loss 2.6")
    shown = capsys.readouterr().err
    before, _, after = shown.partition("step 1/4: validation loss 2.6")
    # The line begins where the cursor was put back to: behind the codes that erase the display, not behind its bar.
    assert re.search(r"\x1b\[2K(\x1b\[2m)?$", before), repr(before[-40:])
    assert "loss 2.5" in after
    console.note("after")
    assert "after" in capsys.readouterr().err


def test_a_terminal_without_the_signs_gets_plain_ones() -> None:
    assert drawn(44, "ascii")[0] == "training 26/52  50%  0:00  ########---------"


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (11_220, "3:07:00")])
def test_durations_are_shown_as_a_clock(seconds: float, shown: str) -> None:
    assert console.clock(seconds) == shown


def test_a_curve_of_one_line() -> None:
    assert console.sparkline([]) == ""
    assert console.sparkline([2.0, 2.0]) == "▁▁"
    assert console.sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"


def test_names_of_emoji_in_a_text_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.line("a:pill:b")
    console.note("c:pill:d")
    console.table("e:pill:f", [["g:pill:h", "1"]])
    captured = capsys.readouterr()
    assert captured.out.startswith("a:pill:b\ne:pill:f\ng:pill:h")
    assert captured.err == "c:pill:d\n"
