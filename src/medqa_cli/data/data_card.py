"""Writes the data card, ``README.md`` of a data folder: front matter for the hub, and what a person needs to know.

Says only what the report and the settings say. The same report gives the same text: no date, no duration, no path of
this machine. Does not write files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from medqa_cli.data.data_folder import SPLITS
from medqa_cli.data.languages import UNKNOWN, has_other_languages
from medqa_cli.markdown import escaped, file_name, one_line, table

MOST_FILES = 20  # that are named one by one

# Those of the hub's licence ids that fit data; any other licence is "other" there, with its name.
_HUB_LICENCE = re.compile(
    r"cc0-1\.0|cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-sa-[34]\.0|cc-by-nc(-sa)?-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|"
    r"cdla-sharing-1\.0|cdla-permissive-[12]\.0|odc-by|odbl|pddl|c-uda|etalab-2\.0|apache-2\.0|mit|gfdl|unlicense|unknown"
)
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
# Settings that say how the rows were chosen; the others hold paths, or are said elsewhere in the card.
_SETTINGS = {
    "test_fraction": "share of the rows held out for tests",
    "validation_fraction": "share of the rows held out to watch the training",
    "near_duplicate_threshold": "5-gram Jaccard similarity from which two answers count as copies",
    "max_copies_of_an_answer": "most rows that share one answer",
    "max_rows": "most rows kept, drawn by the seed",
    "paraphrases_per_question": "further wordings of each training question",
}
_SHARED = {"near_duplicate_answer": "near duplicate of the answer"}
_COLUMNS = {
    "id": "made from question and answer; stays the same when the data is converted again",
    "question": "the question, cleaned",
    "answer": "the answer, cleaned",
    "topic": "what the question is about; empty where it is not known",
    "source": "where the row comes from, as the source says, else the name of its file",
    "text": "prompt and answer as training renders them",
}


@dataclass(frozen=True)
class CardInfo:
    """What the card says beside the report.

    Args:
        name: a name for people, for the title.
        seed: what drew the splits.
        licence: of the source, as it names it; None: not known.
        medqa_version: the version that made the data.
        settings: the values of the section ``data``.
        rule_docs: what each cleaning rule does, in one line.
    """

    name: str
    seed: int
    licence: str | None
    medqa_version: str
    settings: Mapping[str, Any]
    rule_docs: Mapping[str, str]


def data_card(report: Mapping[str, Any], info: CardInfo) -> str:
    """Return the text of ``README.md``.

    Args:
        report: the content of ``report.json``. ``topics``, ``paraphrases`` and ``source.files`` may be missing.
        info: what is not in the report.

    Returns:
        YAML front matter as the hub reads it and a page of Markdown. Names out of the source are escaped.
    """
    parts = [
        f"# {escaped(info.name)}",
        "Questions and answers on health, cleaned and split for training a language model and testing it. "
        f"Made by `medqa convert` (medqa {escaped(info.medqa_version)}).",
        *_source(report["source"]),
        *_licence(info.licence),
        *_rows(report["rows"]),
        *_languages(report.get("languages", {})),
        *_splits(report),
        *_cleaning(report["cleaning"], info.rule_docs),
        *_settings(info),
        *_tokens(report["tokens"]),
        *_columns(info.settings),
        "Rows that were left out stand in `rejected.jsonl`, each with its reason; all counts in `report.json`.",
        "## Limits",
        "This is not medical advice. But for the cleaning the answers stand as in the source: no clinician has checked "
        "them for this data set, and some may be out of date.",
    ]
    return f"---\n{_front_matter(report, info)}---\n\n" + "\n\n".join(parts) + "\n"


def _front_matter(report: Mapping[str, Any], info: CardInfo) -> str:
    rows = report["rows"]["kept"] + report.get("paraphrases", 0)
    size = min(len(str(rows)) - 3, len(_SIZES) - 1) if rows >= 1000 else 0
    # A split without rows is left out: its file is empty, and `datasets` cannot load it.
    files = [{"split": name, "path": f"{name}.jsonl"} for name in SPLITS if report["splits"].get(name)]
    front = {
        "pretty_name": one_line(info.name),
        **_licence_keys(info.licence),
        "task_categories": ["question-answering", "text-generation"],
        **_language_keys(report.get("languages", {})),
        "tags": ["medical"],
        "size_categories": [_SIZES[size]],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10_000)


def _language_keys(languages: Mapping[str, int]) -> dict[str, list[str]]:
    """The languages of a hundredth of the rows or more: single rows are told wrongly here and there."""
    whole = sum(languages.values())
    told = [name for name, count in languages.items() if name != UNKNOWN and 100 * count >= whole]
    return {"language": told} if told else {}


def _licence_keys(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {"license": "unknown"}
    key = re.sub(r"[^a-z0-9.+]+", "-", licence.lower()).strip("-")
    if _HUB_LICENCE.fullmatch(key):
        return {"license": key}
    return {"license": "other", "license_name": key or "as-stated-in-the-card"}


def _licence(licence: str | None) -> list[str]:
    if licence is None:
        return ["## Licence", "Licence of the source: unknown; check before you share."]
    return ["## Licence", f"Licence of the source, as stated there: {escaped(licence)}."]


def _source(source: Mapping[str, Any]) -> list[str]:
    files: Sequence[Mapping[str, Any]] = source.get("files") or [source]
    rows = [(escaped(file_name(file["path"])), file["sha256"] or "") for file in files]
    parts = ["## Source", table(("file", "SHA-256"), rows[:MOST_FILES])]
    return parts + ([f"and {len(rows) - MOST_FILES:,} more files."] if len(rows) > MOST_FILES else [])


def _rows(rows: Mapping[str, Any]) -> list[str]:
    rejected: Mapping[str, int] = rows["rejected"]
    total = sum(rejected.values())
    parts = ["## Rows", f"{rows['read']:,} rows read = {rows['kept']:,} kept + {total:,} rejected."]
    if rejected:
        ordered = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
        parts.append(table(("rejected because", "rows"), [(f"`{reason}`", f"{n:,}") for reason, n in ordered]))
    return parts


def _languages(languages: Mapping[str, int]) -> list[str]:
    if not has_other_languages(languages):
        return []
    rows = [("not told" if name == UNKNOWN else f"`{name}`", f"{count:,}") for name, count in languages.items()]
    return ["Languages, told by the answer's script and commonest words:", table(("language", "rows"), rows)]


def _splits(report: Mapping[str, Any]) -> list[str]:
    kept = report["rows"]["kept"]
    rows = [
        (name, f"`{name}.jsonl`", f"{count:,}", f"{100 * count / kept:.1f} %" if kept else "")
        for name, count in report["splits"].items()
    ]
    return [
        "## Splits",
        table(("split", "file", "rows", "share"), rows),
        *_paraphrases(report.get("paraphrases", 0)),
        *_topics(report.get("topics"), kept),
        *_leakage(report["leakage"]),
    ]


def _paraphrases(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"`train.jsonl` also holds {count:,} paraphrases, further wordings of its questions, each with the answer of "
        "its row. They are not counted as rows."
    ]


def _topics(topics: Mapping[str, Any] | None, kept: int) -> list[str]:
    if topics is None:
        return []
    if not topics["known"]:
        return ["No topic is known of any row."]
    column = topics["column"]
    told = "by the names of the files" if topics.get("pages") else "by the wording of the question"
    origin = f"from the column {escaped(column)}" if column is not None else f"told {told}"
    text = (
        f"{topics['known']:,} of {kept:,} rows have a topic, {topics['distinct']:,} different ones, {origin}. "
        "Rows of one topic were put into one split."
    )
    if topics.get("pages"):
        text += " The topic is the page that a row is from: most rows ask about something of their own."
    doubt = topics.get("doubt")
    return [f"{text} Yet held-out rows may be about what training rows are about: {doubt}." if doubt else text]


def _leakage(leakage: Mapping[str, Mapping[str, int | None]]) -> list[str]:
    whats = dict.fromkeys(what for counts in leakage.values() for what in counts)
    rows = [
        (
            _SHARED.get(what, what),
            *(
                _count(counts.get(what), "not known" if what == "topic" else "not measured")
                for counts in leakage.values()
            ),
        )
        for what in whats
    ]
    return ["Held-out rows that share something with the training rows:", table(("shared", *leakage), rows)]


def _cleaning(changed: Mapping[str, int], rule_docs: Mapping[str, str]) -> list[str]:
    if not changed:
        return ["## Cleaning", "No cleaning rule was switched on."]
    rows = [(f"`{rule}`", escaped(rule_docs.get(rule, "")), f"{count:,}") for rule, count in changed.items()]
    return ["## Cleaning", table(("rule", "what it does", "rows changed"), rows)]


def _settings(info: CardInfo) -> list[str]:
    rows = [("`seed`", "what draws the splits", str(info.seed))]
    for name, meaning in _SETTINGS.items():
        if name in info.settings:
            value = info.settings[name]
            rows.append((f"`{name}`", meaning, "no limit" if value is None else escaped(str(value))))
    return ["## Settings", table(("setting", "meaning", "value"), rows)]


def _tokens(tokens: Mapping[str, Any] | None) -> list[str]:
    if tokens is None:
        return ["## Length", "Not measured: no tokenizer was at hand."]
    answer = ", ".join(f"{name} {count:,}" for name, count in tokens["answer"].items())
    return [
        "## Length",
        f"Tokens of an answer: {answer}. Examples longer than the model's window: "
        f"{tokens['longer_than_max_length']:,}.",
    ]


def _columns(settings: Mapping[str, Any]) -> list[str]:
    rows = [(f"`{name}`", content) for name, content in _COLUMNS.items()]
    if settings.get("paraphrases_per_question"):
        rows.append(("`paraphrase_of`", "the id of the row that this one words anew; empty for a row of the source"))
    return ["## Columns", table(("column", "content"), rows)]


def _count(count: int | None, missing: str) -> str:
    return missing if count is None else f"{count:,}"
