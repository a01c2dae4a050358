"""A conversation at the terminal: questions, and commands that begin with a slash. Ctrl-C stops an answer.

The history is kept in memory; only ``/save`` writes it.
"""

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import write_json_lines
from medqa_cli.prompt.given import Given, Turn
from medqa_cli.prompt.text import PromptText

HELP = """\
Type a question. Each one stands alone unless /follow is on, as it is for a model that learned conversations.
  /follow          put earlier questions and answers before the next question (again: stop that)
  /new             forget the earlier questions and answers
  /context [TEXT]  put a text before the questions, as a model that learned contexts expects it (alone: none)
  /sources [N]     show the N reference answers nearest to the last question
  /model [NAME]    say which model answers, or take another: adapter, merged, base, a folder, a hub id
  /set KEY VALUE   change a key of the section generate, e.g. /set temperature 0.3
  /save FILE       write the conversation to a new file, one JSON object a line
  /help  /exit     Ctrl-C stops an answer, Ctrl-D ends the conversation"""


@dataclass
class Conversation:
    """A conversation: what its caller supplies, and the answers so far.

    ``answer``: answers a question with what is given, shows the answer and returns the object of ``ask --json``;
    ``prompt``: tells how the present model is asked; ``show_sources``: shows reference answers; ``use_model`` and
    ``change``: switch to another model or setting and return a note about it. ``begins``: the number of the first
    answer that the next question may follow.
    """

    answer: Callable[[str, Given], dict[str, Any]]
    prompt: Callable[[], PromptText]
    show_sources: Callable[[str, int], None]
    use_model: Callable[[str], str]
    change: Callable[[str, str], str]
    context: str = ""
    said: list[dict[str, Any]] = field(default_factory=list)
    follows: bool = False
    begins: int = 0

    def run(self, read: Callable[[str], str] = input) -> None:
        """Read lines until ``/exit`` or the end of the input."""
        # With it, ``input`` has history and editing where the platform has readline.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
        console.note(f"{HELP.splitlines()[0]} /help shows the commands.")
        while True:
            console.end()
            try:
                line = read("medqa> ").strip()
            except KeyboardInterrupt:
                console.note("(Ctrl-D or /exit ends the conversation)")
                continue
            except EOFError:
                console.line()
                return
            if line in ("/exit", "/quit"):
                return
            if line:
                self._do(line)

    def _do(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._command(line)
            else:
                line = line.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
                said = self.said[self.begins :] if self.follows else []
                turns = [Turn(one["question"], one["answer"]) for one in said if one["answer"].strip()]
                given = Given(tuple(turns), self.context)
                # Kept as it was typed, without the earlier questions and answers of /follow.
                self.said.append({**self.answer(line, given), "question": line})
        except MedqaError as error:
            console.error(error)
        except KeyboardInterrupt:
            console.line()
            console.note("stopped")

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name == "/help":
            console.note(HELP)
        elif name == "/follow":
            self.follows = not self.follows
            warning = "on: the model was trained on single questions, so answers may get worse"
            is_on = "on: earlier questions and answers stand before the next one" if self.prompt().earlier else warning
            console.note(f"/follow is {is_on if self.follows else 'off'}")
        elif name == "/new":
            self.begins = len(self.said)
            console.note("the next question stands alone")
        elif name == "/context":
            if rest and not self.prompt().context:
                raise InputError("this model was trained without contexts", "write it into the question")
            self.context = rest
            console.note("the context stands before the next questions" if rest else "no context")
        elif name == "/sources":
            last, count = self._last(), rest or "3"
            if not count.isdecimal() or int(count) < 1:
                raise InputError(f"/sources takes a number, not {rest!r}", "for example: /sources 3")
            self.show_sources(last["question"], int(count))
        elif name == "/model":
            console.note(self.use_model(rest))
        elif name == "/set":
            key, _, value = rest.replace("=", " ", 1).partition(" ")
            if not key or not value.strip():
                raise InputError("/set needs a key and a value", "for example: /set temperature 0.3")
            console.note(self.change(key, value.strip()))
        elif name == "/save":
            self._save(rest)
        else:
            raise InputError(f"no command {name}", "/help shows the commands")

    def _last(self) -> dict[str, Any]:
        if not self.said:
            raise InputError("nothing has been asked yet", "ask a question first")
        return self.said[-1]

    def _save(self, rest: str) -> None:
        names = shlex.split(rest)
        if len(names) != 1:
            raise InputError("/save needs the name of one file", "for example: /save answers.jsonl")
        self._last()
        path = Path(names[0]).expanduser()
        if path.exists():
            raise InputError(f"{path} is already there", "name another file")
        write_json_lines(path, self.said)
        console.note(f"wrote {len(self.said)} answers to {path}")
