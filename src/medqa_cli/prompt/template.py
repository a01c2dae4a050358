"""Makes the text side of a prompt contract of a template: built in, a Jinja file, or the model's own chat template.

A chat template is pinned first: it renders the same text on any day, with its thinking mode off.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from medqa_cli.config.schema import TEMPLATES, PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import require_file
from medqa_cli.prompt.rendering import Rendered, render_chats, render_prompts
from medqa_cli.prompt.text import EarlierText, PromptText, Tokenizer

# Today's date for a template that prints it: fixed, so that a training run gives the same model on any day, and a
# resumed one has the same prompts. Meta's templates default to it.
PINNED_DATE = date(2024, 7, 26)

_DATE_CALL = re.compile(r"strftime_now\(\s*(?P<quote>['\"])(?P<format>[ !#-&(-~]{0,200})(?P=quote)\s*\)")
_NO_THOUGHTS = "{% set enable_thinking = false %}"
# The tag that opens thoughts in R1, Qwen, Magistral, Seed, Command A and others, at the end of a prompt: <think>,
# [THINK], <|START_THINKING|>, ...
_OPEN_THOUGHTS = re.compile(
    r"(?P<left>[<\[◁]\|?)(?P<verb>start|begin|)(?P<name>[\w:]*(?:think|thought|reason)\w*)(?P<right>\|?[>\]▷])\s*\Z",
    re.I,
)

_QUESTION_SLOT = "\ue000question\ue001"
_ANSWER_SLOT = "\ue000answer\ue001"
# Of conversations: what is asked and answered in turn, two or three times.
_TALK_SLOTS = tuple(f"\ue000{what}{number}\ue001" for number in range(1, 4) for what in ("question", "answer"))


@dataclass(frozen=True)
class _BuiltIn:
    """A template that comes with medqa.

    ``source`` ends where the answer begins, ``answer_prefix`` is learned with it; ``later_question`` leads into a later
    question of a conversation: as at first, without the system line. ``markers`` tell its parts in a text.
    """

    source: str
    answer_prefix: str
    later_question: str
    markers: tuple[str, ...]


# llama2: Meta's generation.py (B_SYS and E_SYS carry their newlines); alpaca: tatsu-lab/stanford_alpaca, train.py.
_BUILT_IN = {
    "llama2": _BuiltIn(
        "[INST] {% if system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}{{ question }} [/INST]",
        answer_prefix=" ",
        later_question="[INST] ",
        markers=("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    ),
    "alpaca": _BuiltIn(
        "{{ system or 'Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.' }}\n\n### Instruction:\n{{ question }}\n\n### Response:\n",
        answer_prefix="",
        later_question="### Instruction:\n",
        markers=("### Instruction:", "### Response:"),
    ),
    "plain": _BuiltIn(
        "{% if system %}{{ system }}\n\n{% endif %}Question: {{ question }}\nAnswer:",
        answer_prefix=" ",
        later_question="Question: ",
        markers=("\nQuestion:", "\nAnswer:"),
    ),
}
_TEXT_MARKERS = tuple(marker for template in _BUILT_IN.values() for marker in template.markers)
_TAKE_A_BUILT_IN = f"set prompt.template to {', '.join([*_BUILT_IN][:-1])} or {[*_BUILT_IN][-1]}"


def make_prompt_text(config: PromptConfig, tokenizer: Tokenizer | None = None) -> PromptText:
    """Render the template around an empty slot.

    Args:
        config: template and system line.
        tokenizer: needed for ``template: chat`` only.

    Raises:
        InputError: the template cannot be read, or does not hold the question exactly once and unchanged.
    """
    if config.template == "chat":
        return _chat_prompt_text(config, tokenizer)
    built_in = _BUILT_IN.get(config.template)
    if built_in is not None:
        source = built_in.source
    else:
        require_file(Path(config.template))
        try:
            source = Path(config.template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"prompt.template: cannot read {config.template}: {error}",
                f"use {', '.join(TEMPLATES)} or the path of a Jinja file",
            ) from error
    names = {
        "bos_token": getattr(tokenizer, "bos_token", None) or "",
        "eos_token": getattr(tokenizer, "eos_token", None) or "",
    }

    probe = "How is it?"
    slotted, probed = _render_prompts(
        source,
        config,
        [{"question": question, "system": config.system, **names} for question in (_QUESTION_SLOT, probe)],
    )
    before, after = _split_at_slot(slotted, config.template)
    if probed != before + probe + after:
        raise InputError(
            f"{config.template}: the template must hold the question as it is, without filters or conditions on it"
        )
    return _finish_text(config, before, after, built_in.answer_prefix if built_in is not None else "")


def _chat_prompt_text(config: PromptConfig, tokenizer: Tokenizer | None) -> PromptText:
    if tokenizer is None or not tokenizer.chat_template:
        raise InputError(
            "prompt.template is chat, but the model's tokenizer has no chat template"
            if tokenizer is not None
            else "prompt.template is chat: the tokenizer of the model is needed to render it",
            _TAKE_A_BUILT_IN,
        )
    prompt, full, _ = _rendered_chat(config, tokenizer)
    before, after = _split_at_slot(prompt, "the chat template")
    lead = full[len(prompt) : full.find(_ANSWER_SLOT)] if full.startswith(prompt) else ""
    if lead.strip():
        # More than a space, such as an empty reasoning block, is part of the prompt and not of the answer.
        after, lead = after + lead, ""
    return _finish_text(config, before, after + closed_thoughts(after), lead)


def _finish_text(config: PromptConfig, before: str, after: str, answer_prefix: str) -> PromptText:
    markers = [marker for marker in _TEXT_MARKERS if marker.strip() in before + after]
    if config.template not in _BUILT_IN and config.template != "chat":
        markers += [line for line in after.splitlines() if len(line.strip()) > 3 and line not in markers]
    text = PromptText(config.template, config.system, before, after, answer_prefix, tuple(markers))
    if not config.sources:
        return text
    return replace(text, sources=config.sources, source_tokens=config.source_tokens, decline=config.decline)


def prompt_notes(config: PromptConfig, tokenizer: Tokenizer) -> list[str]:
    """Return notes for the user: where the prompt differs from what the chat template renders."""
    if config.template != "chat":
        return []
    source, notes = tokenizer.get_chat_template(), []
    if "strftime_now" in source:
        notes.append(f"the chat template prints today's date; it is pinned to {PINNED_DATE.isoformat()}")
    if _switches_thinking(source):
        notes.append("the chat template has a thinking mode; it is off (enable_thinking=False), in asking as well")
    prompt, _, is_folded = _rendered_chat(config, tokenizer)
    if closed_thoughts(prompt):
        notes.append(
            "the chat template opens a block of thoughts before the answer; it is closed at once, and stays empty"
        )
    if is_folded:
        notes.append(
            "the chat template has no place for prompt.system: it stands at the beginning of the question's turn"
        )
    return notes


def make_earlier(
    config: PromptConfig, tokenizer: Tokenizer, text: PromptText, end_token: str, max_tokens: int
) -> EarlierText:
    """Return the text around earlier turns.

    A chat template says it itself. In the built-in templates an answer ends as it was learned, and a later question
    has no system line; with a template of the user's it has the whole prompt again.

    Args:
        config: template and system line.
        tokenizer: that of the model.
        text: of a single question.
        end_token: that ends an answer.
        max_tokens: of a prompt with earlier turns.

    Raises:
        InputError: the chat template does not keep earlier turns as they are.
    """
    if config.template == "chat":
        return _chat_earlier(config, tokenizer, text, max_tokens)
    bos = tokenizer.bos_token or "" if config.template == "llama2" else ""  # Meta's: each turn has its own
    if bos and list(tokenizer("a")["input_ids"])[:1] != [tokenizer.bos_token_id]:
        bos = ""
    built_in = _BUILT_IN.get(config.template)
    later = end_token + bos + (built_in.later_question if built_in is not None else text.before_question)
    return EarlierText(text.before_question, text.after_question + text.answer_prefix, later, later, max_tokens)


def _chat_earlier(config: PromptConfig, tokenizer: Tokenizer, text: PromptText, max_tokens: int) -> EarlierText:
    specials = {name: value for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    *_, is_folded = _rendered_chat(config, tokenizer)
    lead = [{"role": "system", "content": str(config.system)}] if config.system and not is_folded else []
    texts = [f"{config.system}\n\n{_TALK_SLOTS[0]}" if is_folded else _TALK_SLOTS[0], *_TALK_SLOTS[1:-1]]
    messages = [
        *lead,
        *({"role": ("user", "assistant")[number % 2], "content": content} for number, content in enumerate(texts)),
    ]
    rendered = render_chats(
        [pin_template(tokenizer.get_chat_template())],
        [messages[: len(messages) - 2], messages],
        specials,
        add_generation_prompt=[True, True],
    )[0]
    short, long = (
        _between_slots(one.text or "", _TALK_SLOTS[:count]) for one, count in zip(rendered, (3, 5), strict=True)
    )
    if short and long:
        opening, after_question, before_last, after = short
        before_later = long[2]
        is_fixed = long == [opening, after_question, before_later, after_question, before_last, after]
        has_system = not config.system or str(config.system).strip() in opening + before_last
        # The end agrees with that of a single question.
        if is_fixed and has_system and text.after_question.startswith(after):
            return EarlierText(opening, after_question, before_later, before_last, max_tokens)
    why = next((one.refusal for one in rendered if one.refusal), "it changes them or leaves them out")
    raise InputError(
        f"the model's chat template has no fixed place for earlier turns: {why}",
        f"{_TAKE_A_BUILT_IN}; or learn first turns only: --set data.turns=first",
    )


def _between_slots(rendered: str, slots: Sequence[str]) -> list[str]:
    """Return the texts around slots that stand in their order, each once; empty where they do not."""
    parts = []
    for slot in slots:
        before, found, rendered = rendered.partition(slot)
        if not found or slot in rendered:
            return []
        parts.append(before)
    return [] if any(slot in part for part in (*parts, rendered) for slot in _TALK_SLOTS) else [*parts, rendered]


def _rendered_chat(config: PromptConfig, tokenizer: Tokenizer) -> tuple[str, str, bool]:
    """Return a prompt with a slot for its question, the whole conversation with slots for question and answer.

    Beside them, whether the system line stands in front of the question, as the template refuses or drops it.
    """
    specials = tuple((name, value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str))
    apart, whole_apart, folded, whole_folded = _renderings(
        pin_template(tokenizer.get_chat_template()), config.system, specials
    )
    is_shown = bool(config.system) and str(config.system).strip() in (apart.text or "")
    if is_shown and apart.text is not None and whole_apart.text is not None:
        return apart.text, whole_apart.text, False
    if folded.text is None or whole_folded.text is None:
        raise InputError(
            f"the model's chat template refuses a plain question: {folded.refusal or whole_folded.refusal}",
            _TAKE_A_BUILT_IN,
        )
    return folded.text, whole_folded.text, bool(config.system)


@functools.lru_cache(maxsize=8)
def _renderings(template: str, system: str | None, specials: tuple[tuple[str, str], ...]) -> list[Rendered]:
    """Render prompt and conversation, first with a separate system line, then with it in front of the question."""
    folded = f"{system}\n\n{_QUESTION_SLOT}" if system else _QUESTION_SLOT
    alone = [{"role": "system", "content": str(system)}, {"role": "user", "content": _QUESTION_SLOT}]
    conversations: list[list[dict[str, str]]] = []
    for messages in (alone, [{"role": "user", "content": folded}]):
        conversations += [messages, [*messages, {"role": "assistant", "content": _ANSWER_SLOT}]]
    return render_chats(
        [template],
        conversations,
        dict(specials),
        add_generation_prompt=[True, False] * 2,
    )[0]


def chat_end_token_id(config: PromptConfig, tokenizer: Tokenizer) -> int | None:
    """Return the first special token after an answer in the chat template; the tokenizer's EOS where there is none."""
    tail = _rendered_chat(config, tokenizer)[1].partition(_ANSWER_SLOT)[2]
    special = set(tokenizer.added_tokens_decoder)
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    return next((i for i in ids if i in special), tokenizer.eos_token_id)


def _render_prompts(source: str, config: PromptConfig, values: Sequence[dict[str, Any]]) -> list[str]:
    if config.template in _BUILT_IN:
        import jinja2

        # These are ours and safe. Their final newline is meant, unlike the one that an editor adds to a file.
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
        return [environment.from_string(source).render(**variables) for variables in values]
    texts = []
    for rendered in render_prompts(source, values, what=config.template):
        if rendered.text is None:
            location = f"{config.template}:{rendered.line}" if rendered.line else config.template
            raise InputError(f"{location}: the template fails: {rendered.refusal}")
        texts.append(rendered.text)
    return texts


def _split_at_slot(rendered: str, name: str) -> tuple[str, str]:
    if rendered.count(_QUESTION_SLOT) != 1:
        raise InputError(
            f"{name}: the template must hold the question once, it holds it {rendered.count(_QUESTION_SLOT)} times"
        )
    before, _, after = rendered.partition(_QUESTION_SLOT)
    return before, after


def pin_template(source: str) -> str:
    """Return a chat template that prints ``PINNED_DATE`` as today's date, with its thinking mode off."""
    head = ""
    if _switches_thinking(source):
        head += _NO_THOUGHTS
    if "strftime_now" in source:
        formats = dict.fromkeys(call["format"] for call in _DATE_CALL.finditer(source))
        cases = "".join(
            f"{{% {'elif' if number else 'if'} format == '{name}' %}}{PINNED_DATE.strftime(name)}"
            for number, name in enumerate(formats)
        )
        other = PINNED_DATE.isoformat()
        date_text = f"{cases}{{% else %}}{other}{{% endif %}}" if cases else other
        head += f"{{% macro strftime_now(format) %}}{date_text}{{% endmacro %}}"
    return source if source.startswith(head) else head + source


def closed_thoughts(prompt: str) -> str:
    """Return the text that closes a block of thoughts at the end of a prompt; empty if none is open."""
    opened = _OPEN_THOUGHTS.search(prompt)
    if opened is None:
        return ""
    verb = opened["verb"]
    close = "/" if not verb else "END" if verb.isupper() else "end"
    end = "" if opened.group().endswith("\n") else "\n"
    return f"{end}\n{opened['left']}{close}{opened['name']}{opened['right']}\n\n"


def _switches_thinking(source: str) -> bool:
    return re.search(r"\benable_thinking\b", source) is not None
