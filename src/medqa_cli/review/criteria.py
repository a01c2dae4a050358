"""What raters are asked about each answer: yes-or-no criteria and the words of the page, from a file that can be
replaced (``review.criteria``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError, first_line
from medqa_cli.files import require_file
from medqa_cli.resources import load_yaml
from medqa_cli.spelling import did_you_mean, listed

MOST_CRITERIA = 5  # a key of the keyboard for each of both answers
_OWN = "review_form"
_ID = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = ("better", "remark", "win_rate")
_CHOICES = ("answer_yes", "answer_no")
_GAP = re.compile(r"\{(\w+)\}")
_HINT = "its form is that of resources/review_form.yaml in the package: docs/review_figures.md"


@dataclass(frozen=True)
class Criterion:
    """A question about one answer that is answered by yes or no; ``good``: whether yes is good."""

    id: str
    text: str
    good: bool


@dataclass(frozen=True)
class ReviewForm:
    """The criteria, the language of the page (a tag such as ``en``), and its words by their names."""

    criteria: tuple[Criterion, ...]
    language: str
    words: Mapping[str, str]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the criteria."""
        return tuple(criterion.id for criterion in self.criteria)


def load_form(path: Path | None) -> ReviewForm:
    """Read a form; None: the one of the package.

    Raises:
        InputError: the file is missing or no YAML, or something in it is not as it should be.
    """
    default = load_yaml(_OWN)
    if path is None:
        return ReviewForm(
            tuple(Criterion(**of_one) for of_one in default["criteria"]), default["language"], default["words"]
        )
    value = _read(path)
    if unknown := sorted(map(str, value.keys() - default.keys())):
        raise InputError(f"{path}: unknown key {listed(unknown[:1])}{did_you_mean(unknown[0], default)}", _HINT)
    language = value.get("language", default["language"])
    if not isinstance(language, str) or not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", language):
        raise InputError(f"{path}: language is {language!r}; expected a tag such as en or pt-BR", _HINT)
    criteria = value.get("criteria")
    if not isinstance(criteria, list) or not 1 <= len(criteria) <= MOST_CRITERIA:
        raise InputError(f"{path}: criteria must be a list of 1 to {MOST_CRITERIA} yes-or-no questions", _HINT)
    read = tuple(_criterion(of_one, f"{path}: criterion {number}") for number, of_one in enumerate(criteria, start=1))
    for name, values in (("id", [one.id for one in read]), ("text", [one.text for one in read])):
        if len(set(values)) < len(values):
            raise InputError(f"{path}: two criteria have the same {name}", f"give each a {name} of its own")
    return ReviewForm(read, language, {**default["words"], **_words(value.get("words") or {}, default["words"], path)})


def _read(path: Path) -> dict[Any, Any]:
    import yaml

    require_file(path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(
            f"review.criteria: {path} is missing", "name a YAML file, or leave review.criteria out"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        hint = "put texts with : ? # or quotation marks between quotes"
        raise InputError(f"review.criteria: {path} cannot be read as YAML: {line}{error.problem}", hint) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"review.criteria: {path} cannot be read as YAML: {first_line(error)}", _HINT) from error
    if not isinstance(value, dict):
        raise InputError(f"review.criteria: {path} holds no keys; expected at least criteria:", _HINT)
    return value


def _criterion(value: Any, location: str) -> Criterion:
    if not isinstance(value, dict) or set(value) != {"id", "text", "good"}:
        raise InputError(f"{location} must have the keys id, text and good", _HINT)
    name, text, good = value["id"], value["text"], value["good"]
    if not isinstance(name, str) or not _ID.fullmatch(name) or name in _RESERVED:
        expected = f"small letters, digits and _, and none of {', '.join(_RESERVED)}"
        raise InputError(f"{location}: id is {name!r}; expected {expected}", _HINT)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{location}: text is {text!r}; expected a question", "put a text with a colon in quotes")
    if not isinstance(good, bool):
        raise InputError(f"{location}: good is {good!r}; expected true (yes is good) or false", _HINT)
    return Criterion(name, " ".join(text.split()), good)


def _words(value: Any, default: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the words of a file; each fills the same gaps as the one that it replaces."""
    if not isinstance(value, dict):
        raise InputError(f"{path}: words must be a mapping of names to texts", _HINT)
    for name, text in value.items():
        if name not in default:
            raise InputError(f"{path}: words has no {str(name)!r}{did_you_mean(str(name), default)}", _HINT)
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}: words.{name} is {text!r}; expected a text", "put yes, no and numbers in quotes")
        if name in _CHOICES and re.search(r'[,"]', text):
            expected = "a text without comma and quotation mark, for the list in a spreadsheet"
            raise InputError(f"{path}: words.{name} is {text!r}; expected {expected}", _HINT)
        if strange := set(_GAP.findall(text)) - set(_GAP.findall(default[name])):
            raise InputError(f"{path}: words.{name} has {{{min(strange)}}}, which is not filled in here", _HINT)
    return {name: text.strip() for name, text in value.items()}
