"""What a rater gave back, ``review-RATER.json`` or a filled in spreadsheet, checked against the form that was asked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.files import require_file, without_surrogates
from medqa_cli.review.criteria import ReviewForm
from medqa_cli.review.workbook import SHEET_SUFFIXES, read_workbook

FORMAT_VERSION = 1
CANNOT = "cannot"
VERDICTS = ("x", "y", "equal")
_MOST_BYTES = 64 << 20
_LONGEST = 10**7  # seconds, a third of a year
_SHOWN = 40  # characters of a value in a message
_SAVE_AGAIN = "ask the rater to press Save again: the browser keeps what was entered"


@dataclass(frozen=True)
class Entry:
    """What stands in a file on one pair.

    ``location``: for messages; ``x``, ``y``: an answer for each criterion of the form.
    """

    id: str
    location: str
    x: Mapping[str, bool | None]
    y: Mapping[str, bool | None]
    better: str | None
    cannot_judge: bool
    remark: str
    seconds: float | None

    @property
    def is_empty(self) -> bool:
        """Whether the rater has entered nothing."""
        answers = (*self.x.values(), *self.y.values(), self.better)
        return not self.cannot_judge and not self.remark.strip() and all(answer is None for answer in answers)

    @property
    def said(self) -> tuple[Any, ...]:
        """What was said, without the time that it took."""
        return dict(self.x), dict(self.y), self.better, self.cannot_judge, self.remark


@dataclass(frozen=True)
class Returned:
    """A file that came back: ``saved``: when, as a text to compare, empty where it does not tell; ``problems``: what
    is not used, in sentences.
    """

    path: Path
    rater: str
    saved: str
    entries: tuple[Entry, ...]
    problems: tuple[str, ...]


def read_returned(path: Path, review: str, form: ReviewForm) -> Returned:
    """Read a file that a rater gave back; what is wrong with single entries is left out and named.

    Args:
        path: a .json or a spreadsheet.
        review: id of the review that it should belong to.
        form: what was asked.

    Raises:
        InputError: nothing in it can be used.
    """
    problems: list[str] = []
    if path.suffix.lower() in SHEET_SUFFIXES:
        _require(path)
        value: Any = read_workbook(path, form, problems)
    else:
        value = _read_json(path)
    if not isinstance(value, dict) or not {"format_version", "review", "rater", "pairs"} <= value.keys():
        is_key = isinstance(value, dict) and "samples" in value
        what = "the key of the review, which stays with you" if is_key else "no file that a review page saved"
        raise InputError(f"{path} is {what}", "give the review-RATER.json files of the raters")
    if value["format_version"] != FORMAT_VERSION or isinstance(value["format_version"], bool):
        raise InputError(
            f"{path} has format {_shown(value['format_version'])}; this medqa reads format {FORMAT_VERSION}",
            "use the medqa that made the page",
        )
    if value["review"] != review:
        raise InputError(
            f"{path} belongs to another review ({_shown(value['review'])}); the key is that of {review}",
            "score it with the key.json of the run that its page was made from",
        )
    if not isinstance(value["rater"], str) or not isinstance(value["pairs"], list):
        raise InputError(f"{path} is damaged: rater must be a name and pairs a list", _SAVE_AGAIN)
    saved = value.get("saved")
    entries = []
    for number, of_pair in enumerate(value["pairs"], start=1):
        if of_pair is not None:
            entry = _entry(of_pair, f"{path}, entry {number}", form, problems)
            entries += [entry] if entry is not None else []
    return Returned(path, value["rater"], saved if isinstance(saved, str) else "", tuple(entries), tuple(problems))


def _require(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder", "give the review-RATER.json files of the raters")
    require_file(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", "name the files that the raters gave back"
        ) from error
    if not size:
        raise InputError(f"{path} is empty (0 bytes)", _SAVE_AGAIN)
    if size > _MOST_BYTES:
        raise InputError(f"{path} has over {_MOST_BYTES >> 20} MiB; a review has some kilobytes", _SAVE_AGAIN)


def _read_json(path: Path) -> Any:
    _require(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", "name the files that the raters gave back"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: byte {error.start:,} is not UTF-8", _SAVE_AGAIN) from error
    if text.lstrip().lower().startswith(("<!doctype html", "<html")):
        raise InputError(
            f"{path} is a web page, not what it saved",
            "open it in a browser, press Save, and give the review-RATER.json among the downloads",
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", _SAVE_AGAIN) from error


def _entry(value: Any, location: str, form: ReviewForm, problems: list[str]) -> Entry | None:
    """Return what stands on one pair; None: nothing that can be used."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        problems.append(f"{location}: no judgment with the id of a pair: left out")
        return None
    location = f"{location} ({value['id'][:_SHOWN]})"
    if "check" in value and value["check"] != check_of(value):
        problems.append(f"{location}: changed after it was saved, or damaged: left out")
        return None
    answers: dict[str, dict[str, bool | None]] = {}
    for side in ("x", "y"):
        given = value.get(side)
        if given is not None and not isinstance(given, dict):
            problems.append(f"{location}: {side} is {_shown(given)}; expected yes or no by criterion: not counted")
        given = given if isinstance(given, dict) else {}
        for name in given.keys() - set(form.ids):
            problems.append(f"{location}: {side} has the unknown criterion {_shown(name)}: not counted")
        answers[side] = {name: _yes_or_no(given.get(name), f"{location}: {side}.{name}", problems) for name in form.ids}
    better, cannot = value.get("better"), value.get("cannot_judge", False)
    if better is not None and better not in VERDICTS:
        problems.append(f"{location}: better is {_shown(better)}; expected x, y, equal or null: not counted")
        better = None
    if not isinstance(cannot, bool):
        problems.append(f"{location}: cannot_judge is {_shown(cannot)}; expected true or false: not counted")
        cannot = False
    if cannot and better is not None:
        problems.append(f"{location}: says both which answer is better and that the rater cannot judge: left out")
        return None
    remark, seconds = value.get("remark") or "", value.get("seconds")
    if not isinstance(remark, str):
        problems.append(f"{location}: remark is {_shown(remark)}; expected a text: not counted")
        remark = ""
    if seconds is not None and not (type(seconds) in (int, float) and 0 <= seconds <= _LONGEST):  # not true of NaN
        problems.append(
            f"{location}: seconds is {_shown(seconds)}; expected a number from 0 to {_LONGEST:,}: not counted"
        )
        seconds = None
    return Entry(value["id"], location, answers["x"], answers["y"], better, cannot, without_surrogates(remark), seconds)


def _yes_or_no(value: Any, location: str, problems: list[str]) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    problems.append(f"{location} is {_shown(value)}; expected true, false or null: not counted")
    return None


def check_of(value: Mapping[str, Any]) -> str:
    """Return the checksum that the page puts beside each entry: FNV-1a, 32 bits, over what was said.

    It finds slips and damage, no forgery. ``checked`` in ``resources/review.js.j2`` computes the same.
    """
    parts: list[str] = [str(value["id"])]
    for side in ("x", "y"):
        given = value.get(side)
        given = given if isinstance(given, dict) else {}
        parts += [f"{side}.{name}={json.dumps(given[name])}" for name in sorted(given)]
    parts += [
        json.dumps(value.get("better")),
        json.dumps(value.get("cannot_judge")),
        without_surrogates(str(value.get("remark"))),
    ]
    number = 2166136261
    for byte in "|".join(parts).encode():
        number = (number ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{number:08x}"


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def merged(files: Sequence[Returned], problems: list[str]) -> dict[str, Entry]:
    """Return the entries of one rater's files by pair, each counted once.

    Of two judgments of a pair that differ the one that was saved later counts; where the files do not tell which that
    is, neither does.
    """
    ordered = sorted(files, key=lambda file: file.saved)
    by_pair: dict[str, list[tuple[Returned, Entry]]] = {}
    for file in ordered:
        ids: set[str] = set()
        for entry in file.entries:
            if entry.id in ids:
                problems.append(f"{entry.location}: a second judgment of this pair in the file: left out")
            elif not entry.is_empty:
                by_pair.setdefault(entry.id, []).append((file, entry))
            ids.add(entry.id)
    used: dict[str, Entry] = {}
    twice, later, undecided = 0, 0, []
    for name, several in by_pair.items():
        twice += len(several) > 1
        said = [entry.said for _, entry in several]
        times = [file.saved for file, _ in several]
        if all(judgment == said[0] for judgment in said) or (all(times) and times[-1] > max(times[:-1])):
            later += any(judgment != said[0] for judgment in said)
            used[name] = several[-1][1]
        else:
            undecided.append(several[-1][1].location)
    if len(files) > 1:
        names = ", ".join(str(file.path) for file in ordered)
        problems.append(
            f"{len(files)} files of {files[0].rater} ({names}): {twice} pairs stand in several and count once"
            + (f"; {later} of them differ, and the later file counts" if later else "")
        )
    problems += [
        f"{location}: judged in two ways in two files, none of which is later: left out" for location in undecided
    ]
    return used
