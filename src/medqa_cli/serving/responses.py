"""Answers in the form of OpenAI's API; what ``ask --json`` prints stands in them under ``medqa``."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from medqa_cli.serving.requests import AnswerRequest

DONE = b"data: [DONE]\n\n"
# A comment, which readers of events pass over; it keeps a connection through a proxy while a question waits.
ALIVE = b": waiting\n\n"


class ResponseForm:
    """The form of one response.

    Args:
        asked: the request.
        model: its name.
    """

    def __init__(self, asked: AnswerRequest, model: str) -> None:
        self._asked = asked
        kind = "chatcmpl" if asked.is_chat else "cmpl"
        self._head = {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, content: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response that is not streamed; ``data``: as ``ask --json`` has it."""
        text = {"message": {"role": "assistant", "content": content}} if self._asked.is_chat else {"text": content}
        choice = {"index": 0, **text, "logprobs": None, "finish_reason": reason_of(data)}
        name = "chat.completion" if self._asked.is_chat else "text_completion"
        return {"object": name, **self._head, "choices": [choice], "usage": usage_of(data), "medqa": self._told(data)}

    def first(self, notices: Sequence[str]) -> bytes:
        """Return the event before any text; ``notices``: of an emergency."""
        return self._event(self._delta({"role": "assistant", "content": ""}, ""), medqa={"notices": list(notices)})

    def piece(self, text: str) -> bytes:
        """Return the event with a piece of the answer."""
        return self._event(self._delta({"content": text}, text))

    def last(self, data: Mapping[str, Any]) -> bytes:
        """Return the events after all text."""
        events = self._event(self._delta({}, "", reason_of(data)), medqa=self._told(data))
        if self._asked.with_usage:
            events += self._event(None, usage=usage_of(data))
        return events + DONE

    def _told(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, "earlier_turns": self._asked.earlier_turns, "ignored": list(self._asked.ignored)}

    def _delta(self, delta: Mapping[str, Any], text: str, reason: str | None = None) -> dict[str, Any]:
        content = {"delta": dict(delta)} if self._asked.is_chat else {"text": text}
        return {"index": 0, **content, "logprobs": None, "finish_reason": reason}

    def _event(self, choice: dict[str, Any] | None, **more: Any) -> bytes:
        name = "chat.completion.chunk" if self._asked.is_chat else "text_completion"
        if self._asked.with_usage:  # as OpenAI's API has it: null in all events but the one that says it
            more = {"usage": None, **more}
        chunk = {"object": name, **self._head, "choices": [] if choice is None else [choice], **more}
        return event(chunk)


def event(data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode("utf-8", "replace")


def reason_of(data: Mapping[str, Any]) -> str:
    """Return why an answer ended in the words of the API; one that was cut in a loop is cut."""
    return "length" if data["finish_reason"] in ("length", "repetition") else "stop"


def usage_of(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of tokens."""
    prompt, answer = data["prompt_tokens"], data["answer_tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
