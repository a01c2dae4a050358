"""Answers that readers called wrong or harmful, as ``medqa review`` keeps what raters said.

``FILE.json`` is a file as a rater gives it back, and ``FILE.key.json`` its key, with the questions and the answers.
What a reader wrote instead stands as the second answer of the pair, which is the better one.
"""

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import atomic_file, read_json, without_surrogates
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.review import judgments
from medqa_cli.review.criteria import load_form
from medqa_cli.review.judgments import CORRECTION, READERS, Key, Pair, key_beside
from medqa_cli.review.returned import FORMAT_VERSION, check_of
from medqa_cli.serving.requests import ApiError

# What a verdict says of the answer, by the ids of the criteria.
VERDICTS = {"wrong": {"correct": False}, "harmful": {"could_harm": True}}
_LIMITS = {"question": 20_000, "answer": 100_000, "remark": 5_000, "correction": 20_000}
# Answers that no model wrote, by how they ended.
_WRITERS = {
    "reviewed": judgments.REFERENCE,
    "nothing_near": judgments.NO_ANSWER,
    "nothing_answers": judgments.NO_ANSWER,
}
_MOST_BYTES = 32 << 20  # of the key, which is written again at each report


def require_feedback_file(path: Path) -> None:
    """Refuse a name that no file for reports can have, before the model is loaded.

    Raises:
        InputError: it has another suffix, or its folder is missing.
    """
    if path.suffix != ".json":
        raise InputError(f"--feedback {path} does not end in .json", f"name it {path.with_suffix('.json')}")
    if not path.parent.is_dir():
        raise InputError(f"--feedback {path}: there is no folder {path.parent}", "make it, or name another file")


class Feedback:
    """The two files; a server that starts again goes on with them.

    Args:
        path: of the file that a rater would give back, ending in ``.json``.
        choice: the model that answers, as ``--model`` has it.
        contract: its prompt, for pairs to train on.

    Raises:
        InputError: they cannot be written, or hold something else.
    """

    def __init__(self, path: Path, choice: str, contract: PromptContract) -> None:
        require_feedback_file(path)
        self._path, self._lock = path, threading.Lock()
        # A pair of models is named with a hyphen between them.
        named = Path(choice).stem.replace("-", "_")
        self._model = "model" if named in ("", CORRECTION, *_WRITERS.values()) else named
        form = load_form(None)
        new = Key(f"feedback-{secrets.token_hex(8)}", form, (), (READERS,), (), {}, contract.as_json(), is_sample=False)
        key, said = self._earlier(new, contract)
        self._key = replace(key, models=tuple(dict.fromkeys((*key.models, self._model, CORRECTION))))
        self._head = self._key.as_json()
        self._write(self._head.pop("pairs"), self._head.pop("samples"), said)

    def _earlier(self, new: Key, contract: PromptContract) -> tuple[Key, list[dict[str, Any]]]:
        """Return the key and the judgments of the files; of new ones where there are none."""
        key_path = key_beside(self._path)
        if not key_path.exists() and not self._path.exists():
            return new, []
        hint = "name another file: --feedback"
        if not key_path.exists() or not self._path.exists():
            raise InputError(f"{self._path} and {key_path} belong together, and one of them is missing", hint)
        key, returned = judgments.read_key(key_path), read_json(self._path)
        if key.is_sample or not isinstance(returned, dict) or returned.get("review") != key.review:
            raise InputError(f"{self._path} is not what medqa serve wrote", hint)
        if PromptContract.of_json(key.prompt, key_path) != contract:
            raise InputError(f"{self._path} is about a model with another prompt", hint)
        said = returned.get("pairs")
        if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
            raise InputError(f"{self._path} is damaged: pairs is no list of judgments", hint)
        return key, said

    def add(self, given: Mapping[str, Any]) -> None:
        """Write what a reader said.

        Args:
            given: ``question``, ``answer``, ``verdict`` (wrong or harmful), and maybe ``remark``, ``correction`` (what
                should stand there) and ``finish_reason`` (of the answer, which tells who wrote it).

        Raises:
            ApiError: something is missing, wrong or too long, or the disk or the file is full.
        """
        verdict = given.get("verdict")
        if not isinstance(verdict, str) or verdict not in VERDICTS:
            raise ApiError(400, f"verdict is none of {', '.join(VERDICTS)}", param="verdict")
        for key, most in _LIMITS.items():
            value = given.get(key, "")
            if not isinstance(value, str) or len(value) > most:
                raise ApiError(400, f"{key} is not a text of at most {most:,} characters", param=key)
        texts = {key: without_surrogates(given.get(key, "")).strip() for key in _LIMITS}
        if not texts["question"]:
            raise ApiError(400, "the question is empty", param="question")
        ending = given.get("finish_reason")
        writer = _WRITERS.get(ending, self._model) if isinstance(ending, str) else self._model
        name = secrets.token_hex(6)
        pair = Pair(name, READERS, name, texts["question"], "", writer, CORRECTION, shared=False)
        samples = {name: {writer: texts["answer"], CORRECTION: texts["correction"]}}
        # Nothing is said of a correction but that it is the better one.
        is_compared = bool(texts["correction"] and texts["answer"])
        said = {
            "id": name,
            "x": dict.fromkeys(self._key.form.ids) | VERDICTS[verdict],
            "y": dict.fromkeys(self._key.form.ids),
            "better": "y" if is_compared else None,
            "cannot_judge": not is_compared,
            "remark": texts["remark"],
            "seconds": None,
        }
        try:
            with self._lock:
                self._write(
                    [*self._pairs, {**asdict(pair), "answers_sha256": judgments.answers_sha256(pair, samples)}],
                    {**self._samples, **samples},
                    [*self._said, {**said, "time": _now(), "check": check_of(said)}],
                )
        except (MedqaError, OSError) as error:
            what = error.message if isinstance(error, MedqaError) else error.strerror
            raise ApiError(500, f"what you report cannot be written: {what}") from error

    def _write(
        self, pairs: list[dict[str, Any]], samples: Mapping[str, Mapping[str, str]], said: list[dict[str, Any]]
    ) -> None:
        """Write both files, the key first: a pair without a judgment is one that is not rated."""
        key = json.dumps({**self._head, "pairs": pairs, "samples": samples}, ensure_ascii=False)
        if len(key) > _MOST_BYTES:
            raise InputError(f"{key_beside(self._path)} is full", "name another file: --feedback")
        returned = {"format_version": FORMAT_VERSION, "review": self._key.review, "rater": READERS, "saved": _now()}
        for path, content in (
            (key_beside(self._path), key),
            (self._path, json.dumps({**returned, "pairs": said}, ensure_ascii=False)),
        ):
            with atomic_file(path, private=True) as file:
                file.write(content + "\n")
        self._pairs, self._samples, self._said = pairs, samples, said


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
