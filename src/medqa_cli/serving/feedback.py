"""Answers that readers called wrong or harmful, in a local file, one JSON object a line."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.serving.requests import ApiError, whole

VERDICTS = ("wrong", "harmful")
_LIMITS = {"question": 20_000, "answer": 100_000, "remark": 5_000, "id": 100}


class Feedback:
    """The file; it is opened once, for its owner only, and lines are added at its end.

    Args:
        path: of the file.
        model: the name of the one that answers.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._model, self._lock = model, threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}", "name another file: --feedback") from error

    def add(self, given: Mapping[str, Any]) -> None:
        """Write what a reader said.

        Args:
            given: ``question``, ``answer``, ``verdict`` (wrong or harmful), and maybe ``remark`` and the ``id`` of the
                response.

        Raises:
            ApiError: something is missing, wrong or too long, or the disk is full.
        """
        if given.get("verdict") not in VERDICTS:
            raise ApiError(400, f"verdict is none of {', '.join(VERDICTS)}", param="verdict")
        for key, most in _LIMITS.items():
            value = given.get(key, "")
            if not isinstance(value, str) or len(value) > most:
                raise ApiError(400, f"{key} is not a text of at most {most:,} characters", param=key)
        if not given.get("question", "").strip():
            raise ApiError(400, "the question is empty", param="question")
        row = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "model": self._model}
        row |= {"verdict": given["verdict"]} | {key: whole(given.get(key, "")) for key in _LIMITS}
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        with self._lock:
            try:
                written = os.write(self._descriptor, line)
            except OSError as error:
                raise ApiError(500, f"the file of the feedback cannot be written: {error.strerror}") from error
        if written != len(line):
            raise ApiError(500, "the file of the feedback cannot be written: the disk is full")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
