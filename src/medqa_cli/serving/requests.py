"""What a request of OpenAI's API asks for: its body, checked and taken apart.

The prompt is the model's own: a system message is the context of a model that learned contexts and is left out else,
and earlier turns are left out or put before the question as ``/follow`` does. What is left out is named in the
response; what would change its form is refused.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medqa_cli.answering.emergencies import ONLY_ENGLISH, PERHAPS_NOT_ENGLISH, kinds
from medqa_cli.answering.generate import NOTICE, asked_of
from medqa_cli.answering.open_book import NOTHING_ANSWERS, NOTHING_NEAR, REVIEWED_NOTICE
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.files import without_surrogates
from medqa_cli.prompt.given import NOTHING, Given, Turn
from medqa_cli.prompt.text import PromptText

EarlierTurns = Literal["none", "left_out", "before_question"]
SOURCES = "\n\nSources:\n"  # before the list of sources behind an answer
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_CONTEXT_ROLES, _TURN_ROLES = ("system", "developer"), ("user", "assistant")
_MOST_STOPS, _LONGEST_STOP = 16, 200
_MOST_NAMED, _LONGEST_NAME = 20, 60
_HIGHEST_TEMPERATURE = 2.0
# Keys that would change the form of the response, with the values that do not.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "echo": (None, False),
    "suffix": (None, ""),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
_READ = {"model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
_READ |= {"temperature", "top_p", "stop", "medqa", *_REFUSED}
_OPTIONS = ("content", "also_model", "anyway")


class ApiError(Exception):
    """What is wrong with a request: the status, and the error object of OpenAI's API."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def as_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class AnswerRequest:
    """One question and how it is to be answered.

    ``typed``: the question without earlier turns; ``bare``: the content is the answer alone, its notices and sources
    stand beside it; ``ignored``: what of the request has no effect; ``given``: what stands before the question.
    """

    question: str
    typed: str
    settings: GenerateConfig
    is_chat: bool
    stops: tuple[str, ...] = ()
    streams: bool = False
    with_usage: bool = False
    bare: bool = False
    also_model: bool = False
    anyway: bool = False
    earlier_turns: EarlierTurns = "none"
    ignored: tuple[str, ...] = ()
    given: Given = NOTHING


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object in a body.

    Raises:
        ApiError: it is not UTF-8, not JSON, nested too deeply, or no object.
    """
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "the body is not JSON in UTF-8") from error
    if not isinstance(found, dict):
        raise ApiError(400, "the body is not a JSON object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def parse(body: Mapping[str, Any], config: Config, model: str, text: PromptText, *, is_chat: bool) -> AnswerRequest:
    """Check a body and take it apart.

    Args:
        body: the JSON object.
        config: limits, and how answers are generated.
        model: the one that is served.
        text: how it is asked.
        is_chat: a chat completion rather than a plain one, whose prompt is the question.

    Raises:
        ApiError: it is wrong, or asks for what is not there.
    """
    require_model(body.get("model"), model)
    for key, neutral in _REFUSED.items():
        if body.get(key) not in neutral:
            raise ApiError(400, f"{key} is not supported here", "unsupported_value", key)
    ignored = [name for name in body if name not in _READ and body[name] is not None]
    given = NOTHING
    if is_chat:
        typed, given, more = _from_messages(body.get("messages"), text)
        ignored += more
    else:
        typed = _from_prompt(body.get("prompt"))
    how: EarlierTurns = "before_question" if given.earlier else "none"
    wanted = config.serve.earlier_turns
    if given.earlier and (wanted == "leave_out" or (wanted == "auto" and text.earlier is None)):
        given, how = replace(given, earlier=()), "left_out"
    longest = config.serve.max_question_characters
    question, given = asked_of(text, typed, given)
    sizes = itertools.accumulate(len(turn.question) + len(turn.answer) for turn in reversed(given.earlier))
    if short := sum(size > longest for size in sizes):
        ignored.append(f"{short} earlier turns, beyond {longest:,} characters")
        given = given.without_first(short)
    if max(len(question), len(given.context)) > longest:
        raise ApiError(400, f"the question has more than {longest:,} characters", "context_length_exceeded")
    options = _options(body)
    return AnswerRequest(
        question,
        typed,
        _settings(body, config.generate),
        is_chat,
        _stops(body.get("stop")),
        _flag(body, "stream"),
        _flag(_object(body, "stream_options"), "include_usage"),
        options.get("content") == "answer",
        _flag(options, "also_model"),
        _flag(options, "anyway"),
        how,
        tuple(without_surrogates(name[:_LONGEST_NAME]) for name in dict.fromkeys(ignored))[:_MOST_NAMED],
        given,
    )


def _options(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a body asks of medqa alone."""
    options = _object(body, "medqa")
    if unknown := set(options) - set(_OPTIONS):
        raise ApiError(400, f"medqa has no option {sorted(unknown)[0][:_LONGEST_NAME]!r}", param="medqa")
    if options.get("content") not in (None, "shown", "answer"):
        raise ApiError(400, "medqa.content is neither shown nor answer", param="medqa")
    return options


def require_model(named: Any, model: str) -> None:
    """Refuse another model than the one that is served."""
    if not isinstance(named, str):
        raise ApiError(400, "model is missing: name the one that /v1/models lists", "missing_model", "model")
    if named != model:
        raise ApiError(404, f"no such model here; /v1/models lists {model}", "model_not_found", "model")


def _from_messages(messages: Any, text: PromptText) -> tuple[str, Given, list[str]]:
    """Return the question, what stands before it, and what is left out."""
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages is not a list of messages", param="messages")
    said: list[tuple[str, str]] = []
    contexts, ignored = [], []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            raise ApiError(400, f"a message has none of the roles {', '.join(_ROLES)}", param="messages")
        content = _text(message.get("content"))
        if role in ("user", "assistant"):
            said.append((role, content))
        elif content and role in _CONTEXT_ROLES and text.context:
            contexts.append(content)
        elif content:
            ignored.append(f"{role} message")
    if not said or said[-1][0] != "user":
        raise ApiError(400, "the last message is not one of the user", param="messages")
    question = said.pop()[1]
    if not question.strip():
        raise ApiError(400, "the question is empty", param="messages")
    if not said:
        return question, Given(context="\n\n".join(contexts)), ignored
    if text.earlier is None:
        last = (next((content for role, content in said[::-1] if role == wanted), "") for wanted in _TURN_ROLES)
        earlier: tuple[Turn, ...] = (Turn(next(last), _without_notices(next(last))),)
    else:
        turns = (
            Turn(question_before, _without_notices(answer))
            for (role, question_before), (next_role, answer) in itertools.pairwise(said)
            if (role, next_role) == _TURN_ROLES
        )
        earlier = tuple(turn for turn in turns if turn.question.strip() and turn.answer.strip())
        if 2 * len(earlier) < len(said):
            ignored.append("a message without its question or answer")
    return question, Given(earlier, "\n\n".join(contexts)), ignored


def _without_notices(answer: str) -> str:
    """Return an earlier answer without what was put before and behind it."""
    for kind in kinds():
        answer = answer.removeprefix(kind.notice).lstrip()
    answer = answer.partition(SOURCES)[0].rstrip()
    for behind in (ONLY_ENGLISH, PERHAPS_NOT_ENGLISH, NOTICE, REVIEWED_NOTICE, NOTHING_NEAR, NOTHING_ANSWERS):
        answer = answer.removesuffix(behind)
    return answer.rstrip()


def _from_prompt(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ApiError(400, "prompt is not one text", param="prompt")
    if not prompt.strip():
        raise ApiError(400, "the question is empty", param="prompt")
    return without_surrogates(prompt)


def _text(content: Any) -> str:
    """Return the text of a message, which may come in parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return without_surrogates(content)
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "a message has a content other than text", param="messages")
    return without_surrogates("\n".join(map(str, texts)))


def _stops(value: Any) -> tuple[str, ...]:
    texts: Sequence[Any] = () if value is None else [value] if isinstance(value, str) else value
    right = isinstance(texts, list | tuple) and len(texts) <= _MOST_STOPS
    if not right or not all(isinstance(text, str) and 0 < len(text) <= _LONGEST_STOP for text in texts):
        what = f"stop is not a text or a list of at most {_MOST_STOPS} texts of 1 to {_LONGEST_STOP} characters"
        raise ApiError(400, what, param="stop")
    return tuple(map(without_surrogates, texts))


def _settings(body: Mapping[str, Any], config: GenerateConfig) -> GenerateConfig:
    """Return how the answer is generated: as the config says where the request is silent, and never longer."""
    limits = [config.max_new_tokens]
    for key in ("max_tokens", "max_completion_tokens"):
        value = body.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise ApiError(400, f"{key} is not a whole number of 1 or more", param=key)
        limits.append(config.max_new_tokens if value is None else value)
    temperature = _number(body, "temperature", config.temperature, 0.0, _HIGHEST_TEMPERATURE)
    top_p = _number(body, "top_p", config.top_p, 0.0, 1.0)
    if top_p == 0:
        raise ApiError(400, "top_p is not above 0", param="top_p")
    return replace(config, max_new_tokens=min(limits), temperature=temperature, top_p=top_p)


def _number(body: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = body.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not low <= value <= high:
        raise ApiError(400, f"{key} is not a number from {low:g} to {high:g}", param=key)
    return float(value)


def _flag(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key)
    if value is not None and type(value) is not bool:
        raise ApiError(400, f"{key} is not true or false", param=key)
    return bool(value)


def _object(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise ApiError(400, f"{key} is not an object", param=key)
    return value or {}
