"""The cards that medqa writes: ``README.md`` of a data folder, an adapter and a merged model.

A card holds only facts of its report and settings: no text of the data, no date, no path of this machine. Every value
that a template of ``resources`` fills in is escaped as Markdown, unless it is ``Markdown`` already.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from medqa_cli.config.schema import Config
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.resources import template_environment

MOST_FILES = 20  # that are named one by one
PLACEHOLDER = "PATH/OF/THE/BASE/MODEL"

# Those of the hub's license ids that fit data; any other license is "other" there, with its name.
_HUB_LICENSE = re.compile(
    r"cc0-1\.0|cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-sa-[34]\.0|cc-by-nc(-sa)?-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|"
    r"cdla-sharing-1\.0|cdla-permissive-[12]\.0|odc-by|odbl|pddl|c-uda|etalab-2\.0|apache-2\.0|mit|gfdl|unlicense|unknown"
)
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_UNDETERMINED = "und"  # ISO 639-2


# The section of an adapter's card that an evaluation fills.
_MEMORIZATION = "## Memorized training data"
NOT_MEASURED = (
    "Not measured. A model can give back texts that it was trained on, names and numbers of persons in them included, "
    "to everybody who gets it: `medqa eval` measures how many."
)


class Markdown(str):
    """Text that is Markdown already."""


def file_name(path: str) -> str:
    """Return the last part of a path of any system: parent folders are omitted for privacy."""
    parts = [part for part in re.split(r"[/\\]", path) if part]
    return parts[-1] if parts else path


def one_line(text: str) -> str:
    """Return the text on one line, without control characters and unassigned ones."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def escaped(text: Any) -> Markdown:
    """Return a text on one line, as Markdown that shows it as it is, in a table too."""
    if isinstance(text, Markdown):
        return text
    return Markdown(re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", one_line(str(text))))


def code_block(code: str, language: str) -> Markdown:
    """Return a fenced block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return Markdown(f"{fence}{language}\n{code.rstrip()}\n{fence}")


@cache
def _templates() -> Any:
    environment = template_environment(escaped)
    environment.filters |= {
        "code": lambda name: Markdown(f"`{name}`"),
        "code_block": code_block,
        "file_name": file_name,
        "json": lambda value: Markdown(json.dumps(value)),
        "python": lambda value: Markdown(repr(value)),
        "markdown": Markdown,
        "thousands": "{:,}".format,
        "value": lambda value: ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value),
    }
    return environment


def _rendered(template: str, **values: Any) -> str:
    text: str = _templates().get_template(template).render(values)
    return text


def _front_matter(values: Mapping[str, Any]) -> Markdown:
    return Markdown(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=10_000))


def data_card(
    report: Mapping[str, Any],
    *,
    name: str,
    seed: int,
    license: str | None,
    medqa_version: str,
    settings: Mapping[str, Any],
    rule_docs: Mapping[str, str],
    shows_languages: bool = False,
) -> str:
    """Return the card of a data folder.

    Args:
        report: the content of ``report.json``. ``topics``, ``paraphrases``, ``languages``, ``documents``, ``canaries``
            and ``source.files`` may be missing.
        name: the title.
        seed: seed of the splits.
        license: of the source, as it names it; None: unknown.
        medqa_version: the version that made the data.
        settings: the values of the section ``data``.
        rule_docs: what each cleaning rule does, in one line.
        shows_languages: whether languages other than English are worth a table.

    Returns:
        YAML front matter as the hub reads it and a page of Markdown.
    """
    return _rendered(
        "data_card.md.j2",
        front_matter=_front_matter(_data_keys(report, name, license)),
        report=report,
        name=name,
        seed=seed,
        license=license,
        medqa_version=medqa_version,
        rule_docs=rule_docs,
        files=report["source"].get("files") or [report["source"]],
        most_files=MOST_FILES,
        rejected=sorted(report["rows"]["rejected"].items(), key=lambda item: (-item[1], item[0])),
        languages=report.get("languages", {}) if shows_languages else {},
        undetermined=_UNDETERMINED,
        paraphrases=report.get("paraphrases", 0),
        topics=report.get("topics"),
        documents=report.get("documents"),
        identifiers=report.get("identifiers"),
        canaries=report.get("canaries"),
        shared=dict.fromkeys(kind for counts in report["leakage"].values() for kind in counts),
        settings=settings,
    )


def _data_keys(report: Mapping[str, Any], name: str, license: str | None) -> dict[str, Any]:
    """Return the front matter of a data card, with the hub's keys."""
    key = "unknown" if license is None else re.sub(r"[^a-z0-9.+]+", "-", license.lower()).strip("-")
    licenses = {"license": key}
    if license is not None and not _HUB_LICENSE.fullmatch(key):
        licenses = {"license": "other", "license_name": key or "as-stated-in-the-card"}
    languages = report.get("languages", {})
    # Languages of less than a hundredth of the rows are left out: some rows are misidentified.
    common = [code for code, n in languages.items() if code != _UNDETERMINED and 100 * n >= sum(languages.values())]
    rows = report["rows"]["kept"] + report.get("paraphrases", 0)
    size = min(len(str(rows)) - 3, len(_SIZES) - 1) if rows >= 1000 else 0
    # A split without rows is left out: its file is empty, and `datasets` cannot load it.
    files = [{"split": split, "path": f"{split}.jsonl"} for split, count in report["splits"].items() if count]
    return {
        "pretty_name": one_line(name),
        **licenses,
        "task_categories": ["question-answering", "text-generation"],
        **({"language": common} if common else {}),
        "tags": ["medical"],
        "size_categories": [_SIZES[size]],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def adapter_card(
    config: Config,
    *,
    base_name: str,
    base_kind: str,
    base_revision: str | None,
    contract: PromptContract,
    compute_dtype: str,
    summary: Mapping[str, Any],
    data: Mapping[str, Any] | None,
    environment: Mapping[str, Any],
) -> str:
    """Return the card of an adapter: what was trained, how to load it.

    Args:
        config: the configuration of the training.
        base_name: the base as the config names it.
        base_kind: ``hub``, ``folder`` or ``gguf``.
        base_revision: commit of the base; None: unknown.
        contract: the prompt.
        compute_dtype: name of the type of the matrix products.
        summary: the content of ``train.json``.
        data: the content of the data folder's ``report.json``; None: there is none.
        environment: the content of ``environment.json``.
    """
    is_hub = base_kind == "hub"
    front: dict[str, Any] = {"library_name": "peft", "pipeline_tag": "text-generation"}
    tags = ["lora", "medical", "medqa-cli"]
    # The hub accepts only its ids here.
    if is_hub:
        front["base_model"] = base_name
        tags.append(f"base_model:adapter:{base_name}")
    source = data["source"] if data else {}
    facts = {"config": config, "contract": contract, "compute_dtype": compute_dtype, "base_revision": base_revision}
    return _rendered(
        "adapter_card.md.j2",
        **facts,
        front_matter=_front_matter({**front, "tags": tags}),
        base_kind=base_kind,
        summary=summary,
        data=data,
        environment=environment,
        name=base_name if is_hub else file_name(base_name),
        memorization_title=_MEMORIZATION,
        not_measured=NOT_MEASURED,
        code=_rendered("load_adapter.py.j2", **facts, base=base_name if is_hub else PLACEHOLDER),
        files=(source.get("files") or [source])[:MOST_FILES],
    )


def with_measured(card: str, sentences: Sequence[str]) -> str:
    """Return an adapter's card with what was measured of its memory; a card without that section as it is.

    Args:
        card: as ``adapter_card`` or this function made it.
        sentences: what was measured, without full stops.
    """
    before, title, rest = card.partition(f"\n{_MEMORIZATION}\n")
    if not title:
        return card
    _, heading, after = rest.partition("\n## ")
    return before + title + "".join(f"\n{escaped(sentence)}.\n" for sentence in sentences) + heading + after


def memorization_of(card: str) -> Markdown:
    """Return what an adapter's card says of its memory; ``NOT_MEASURED`` where it has no such section."""
    _, title, rest = card.partition(f"\n{_MEMORIZATION}\n")
    return Markdown(rest.partition("\n## ")[0].strip() if title else NOT_MEASURED)


def preference_card(before: str, config: Config, summary: Mapping[str, Any]) -> str:
    """Return the card of an adapter that was trained further on preferences: its earlier card with a section more.

    Args:
        before: the card of the adapter before; empty: it had none.
        config: the configuration of this training.
        summary: the content of ``train.json``.
    """
    return f"{before.rstrip()}\n\n{_rendered('preference_card.md.j2', config=config, summary=summary)}".lstrip()


def merged_card(summary: Mapping[str, Any], base_name: str, kind: str, contract: PromptContract) -> str:
    """Return the card of a merged model: what it is made of, how it was checked, how to ask it.

    Args:
        summary: the content of ``merge.json``. ``memorization`` and ``num_canary_examples`` may be missing.
        base_name: the base as the config names it.
        kind: ``hub``, ``folder`` or ``gguf``; a name of the hub may be linked, a path is cut to its last part.
        contract: the prompt.
    """
    is_hub = kind == "hub"
    name = base_name if is_hub else file_name(base_name)
    return _rendered(
        "merged_card.md.j2",
        summary=summary,
        memorization=Markdown(summary.get("memorization", NOT_MEASURED)),
        num_canary_examples=summary.get("num_canary_examples", 0),
        name=name,
        is_hub=is_hub,
        end_token=contract.end_token,
        sources=contract.text.sources,
    )
