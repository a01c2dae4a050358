"""Counts and times of the server in Prometheus' text format; no text of a question or an answer is in them."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class _Histogram:
    """How often a time was at most each of the bounds."""

    def __init__(self) -> None:
        self._counts = [0] * len(_SECONDS)
        self._count, self._sum = 0, 0.0

    def add(self, seconds: float) -> None:
        """Take one time."""
        self._counts = [count + (seconds <= bound) for count, bound in zip(self._counts, _SECONDS, strict=True)]
        self._count, self._sum = self._count + 1, self._sum + seconds

    def lines(self, name: str) -> Iterator[str]:
        """Return the lines about it."""
        for bound, count in zip(_SECONDS, self._counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self._count}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self._count}"


class Metrics:
    """What the server counts. It is changed by the event loop alone, and may be read by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._responses: Counter[tuple[str, int]] = Counter()
        self._ends: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._urgent = 0
        self._first, self._whole = _Histogram(), _Histogram()
        self.under_way = 0  # requests that are answered or wait for it

    def responded(self, path: str, status: int) -> None:
        """Count a response; ``path``: that of a route."""
        with self._lock:
            self._responses[path, status] += 1

    def began(self, seconds: float) -> None:
        """Take the time from a request to the first text of its answer."""
        with self._lock:
            self._first.add(seconds)

    def ended(self, data: Mapping[str, Any], num_emergencies: int, seconds: float) -> None:
        """Count an answer.

        Args:
            data: as ``ask --json`` has it.
            num_emergencies: notices of an emergency.
            seconds: from the request to the end of the answer.
        """
        with self._lock:
            self._ends[data["finish_reason"]] += 1
            self._tokens["prompt"] += data["prompt_tokens"]
            self._tokens["answer"] += data["answer_tokens"]
            self._urgent += num_emergencies > 0
            self._whole.add(seconds)

    def text(self) -> str:
        """Return all of it."""
        with self._lock:
            lines = [
                *_described("medqa_responses_total", "counter", "Responses by path and status."),
                *(
                    f'medqa_responses_total{{path="{path}",status="{status}"}} {count}'
                    for (path, status), count in sorted(self._responses.items())
                ),
                *_described("medqa_answers_total", "counter", "Answers by how they ended."),
                *(f'medqa_answers_total{{ended="{end}"}} {count}' for end, count in sorted(self._ends.items())),
                *_described("medqa_tokens_total", "counter", "Tokens of prompts and answers."),
                *(f'medqa_tokens_total{{of="{of}"}} {count}' for of, count in sorted(self._tokens.items())),
                *_described("medqa_emergency_notices_total", "counter", "Answers behind a notice of an emergency."),
                f"medqa_emergency_notices_total {self._urgent}",
                *_described("medqa_requests_under_way", "gauge", "Requests that are answered or wait for it."),
                f"medqa_requests_under_way {self.under_way}",
                *_described("medqa_first_text_seconds", "histogram", "From a request to the first text."),
                *self._first.lines("medqa_first_text_seconds"),
                *_described("medqa_answer_seconds", "histogram", "From a request to the end of its answer."),
                *self._whole.lines("medqa_answer_seconds"),
            ]
        return "\n".join(lines) + "\n"


def _described(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"
