"""Render Jinja templates in a child process, within limits of time, memory and length.

A template comes with a model and may loop forever or write without end.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medqa_cli.confined import Limits, call

# A real template renders in milliseconds; importing Jinja takes longest.
_LIMITS = Limits(seconds=10.0, memory_bytes=512 << 20, action="rendered")
_HINT = "set prompt.template to llama2, alpaca, plain or your own file, or fix the template"
_MOST_CHARACTERS = 200_000
_MOST_TEMPLATE_CHARACTERS = 400_000


@dataclass(frozen=True)
class Rendered:
    """A rendered text, or why there is none (``text`` is None) and the line of the template, if it is known."""

    text: str | None
    refusal: str = ""
    line: int | None = None


def render_chats(
    templates: Sequence[str],
    conversations: Sequence[Sequence[Mapping[str, str]]],
    special_tokens: Mapping[str, Any],
    *,
    add_generation_prompt: Sequence[bool],
) -> list[list[Rendered]]:
    """Render conversations by chat templates as Transformers does (``apply_chat_template``, 5.23).

    Args:
        templates: the sources.
        conversations: messages with ``role`` and ``content``.
        special_tokens: names such as ``bos_token`` that a template may use.
        add_generation_prompt: for each conversation, whether the head of an answer follows.

    Returns:
        For each template, the rendered conversations.

    Raises:
        InputError: rendering does not end, or takes too much memory.
    """
    settings = {"trim_blocks": True, "lstrip_blocks": True}
    values = [
        {"messages": list(messages), "add_generation_prompt": head, "tools": None, "documents": None, **special_tokens}
        for messages, head in zip(conversations, add_generation_prompt, strict=True)
    ]
    what = "the model's chat template"
    return call(_render_all, list(templates), settings, values, what=what, hint=_HINT, limits=_LIMITS)


def render_prompts(template: str, values: Sequence[Mapping[str, Any]], *, what: str) -> list[Rendered]:
    """Render the Jinja file of a user once for each set of values; an undefined name is an error.

    Raises:
        InputError: rendering does not end, or takes too much memory.
    """
    sets = [dict(variables) for variables in values]
    return call(_render_all, [template], {"strict": True}, sets, what=what, hint=_HINT, limits=_LIMITS)[0]


def _render_all(
    templates: Sequence[str], settings: dict[str, bool], values: Sequence[Mapping[str, Any]]
) -> list[list[Rendered]]:
    """Render everything; runs in the child."""
    environment = _environment(**settings)
    return [[_render(environment, template, variables) for variables in values] for template in templates]


def _render(environment: Any, template: str, values: Mapping[str, Any]) -> Rendered:
    if len(template) > _MOST_TEMPLATE_CHARACTERS:
        return Rendered(None, f"it has {len(template):,} characters")
    written: list[str] = []
    length = 0
    try:
        for piece in environment.from_string(template).generate(**values):
            length += len(piece)
            if length > _MOST_CHARACTERS:
                return Rendered(None, f"it writes more than {_MOST_CHARACTERS:,} characters")
            written.append(piece)
    except MemoryError:
        raise
    except Exception as error:  # the template's expressions can raise any class
        reason = " ".join(str(error).split()) or type(error).__name__
        return Rendered(None, reason[:300], getattr(error, "lineno", None))
    text = "".join(written)
    if any("\ud800" <= character <= "\udfff" for character in text):
        return Rendered(None, "it writes half of a surrogate pair")
    return Rendered(text)


def _environment(*, strict: bool = False, **settings: bool) -> Any:
    """Return the sandbox of a template: with ``strict`` a user's, else what Transformers gives a chat template."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if strict:
        return ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, **settings)

    class Generation(Extension):
        """``{% generation %}`` marks what an assistant said; it changes no text."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_say"), [], [], body).set_lineno(line)

        def _say(self, caller: Any) -> Any:
            return caller()

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
               sort_keys: bool = False) -> str:  # fmt: skip
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(extensions=[Generation, loopcontrols], **settings)
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["dict"] = lambda *args, **kwargs: dict(*args, **kwargs)
    environment.globals["namespace"] = _guarded_namespace()
    return environment


def _guarded_namespace() -> type:
    """Return Jinja's ``namespace`` without names that begin with an underscore: those lead to Python's internals."""
    import jinja2

    def refuse_inner(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"the name {name!r} begins with an underscore")

    class Namespace(jinja2.utils.Namespace):
        def __init__(*args: Any, **kwargs: Any) -> None:
            self, *mappings = args
            values = dict(*mappings, **kwargs)
            for name in values:
                refuse_inner(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name: str, value: Any) -> None:
            refuse_inner(name)
            super().__setitem__(name, value)

    return Namespace
