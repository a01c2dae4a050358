"""What ``medqa convert`` does when a user types it: convert, audit a folder, or show what a rule does.

Brings the data together with the tokenizer of the model. The work itself is in ``data``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medqa_cli import console
from medqa_cli.config.schema import DataConfig, ModelConfig, PromptConfig
from medqa_cli.data import convert as conversion
from medqa_cli.data import report
from medqa_cli.data.audit import audit_folder
from medqa_cli.data.reading.sources import check_sources, open_sources
from medqa_cli.data.rule_examples import rule_examples
from medqa_cli.errors import MedqaError
from medqa_cli.prompt.template import make_prompt_text

EXAMPLES_SHOWN = 10


@dataclass(frozen=True)
class ConvertJob:
    """All that a conversion needs."""

    sources: Sequence[str]
    out_dir: Path
    data: DataConfig
    prompt: PromptConfig
    model: ModelConfig
    seed: int
    force: bool


def convert(job: ConvertJob) -> None:
    """Convert and show the report.

    Raises:
        InputError: a source, the config or the folder to write is wrong.
        MedqaError: the written splits leak, or could not be written.
    """
    # Before the tokenizer, which takes seconds to load.
    check_sources(job.sources)
    converted = conversion.convert(job.sources, job.data, job.seed, _text_tools(job), job.out_dir, job.force)
    console.result(converted.report, lambda: report.show(converted.report, converted.advice, job.out_dir))
    _check_no_leak(converted.report["leakage"], job.out_dir)


def audit(folder: Path, data: DataConfig) -> None:
    """Count what the splits of a folder share, and show it.

    Raises:
        InputError: the folder holds no splits that can be read.
        MedqaError: held-out rows are not held out.
    """
    found = audit_folder(folder, data.near_duplicate_threshold, conversion.column_names(data))
    console.result(found.as_json(), lambda: report.show_audit(found, folder))
    _check_no_leak(found.leakage, folder)


def show_rule(rule: str, sources: Sequence[str], data: DataConfig, seed: int) -> None:
    """Show some rows before and after a cleaning rule, or that a reason leaves out.

    Raises:
        InputError: a source is wrong.
        ConfigError: there is no such rule or reason.
    """
    opened = open_sources(sources, conversion.column_names(data))
    examples = rule_examples(opened, rule, data.cleaning, EXAMPLES_SHOWN, seed)
    console.result([asdict(example) for example in examples], lambda: report.show_rule(rule, examples))


def _text_tools(job: ConvertJob) -> conversion.TextTools:
    """Return what renders the ``text`` column and what counts tokens; the latter only with a model at hand."""
    if job.model.name_or_path is None:
        console.note("model.name_or_path is not set: token lengths are not measured")
        return conversion.TextTools(make_prompt_text(job.prompt).render, None, job.model.max_length)
    from medqa_cli.model.load import load_config, load_tokenizer, num_embeddings
    from medqa_cli.model.resolve import find_base
    from medqa_cli.prompt.encoder import PromptEncoder, make_contract

    source = find_base(job.model.name_or_path, job.model.revision)
    tokenizer = load_tokenizer(source.location, source.revision)
    rows = num_embeddings(load_config(source.location, source.revision))
    encoder = PromptEncoder(make_contract(job.prompt, tokenizer), tokenizer, rows)
    return conversion.TextTools(
        encoder.contract.text.render, encoder.count_tokens, job.model.max_length, encoder.num_special_tokens
    )


def _check_no_leak(leakage: dict[str, dict[str, int | None]], folder: Path) -> None:
    """End with exit code 1 where held-out rows are not held out."""
    leaks = [
        f"{count:,} {split} rows by {kind.replace('_', ' ')}"
        for split, counts in leakage.items()
        for kind, count in counts.items()
        if count
    ]
    if leaks:
        raise MedqaError(
            f"{folder} leaks: {', '.join(leaks)} stand in another split too",
            "figures on such rows say little; split the whole anew: medqa convert FILE",
        )
