"""Questions with the answers of the models that a review compares: those that ``medqa eval`` kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.data.normalize import normalize
from medqa_cli.errors import InputError
from medqa_cli.evaluation.results import SAMPLES_NAME
from medqa_cli.evaluation.samples import Sample, read_samples, topic_keys
from medqa_cli.files import MODEL_NAMES, RunFolder
from medqa_cli.review.draw import spread
from medqa_cli.review.judgments import REFERENCE
from medqa_cli.spelling import did_you_mean, listed


@dataclass(frozen=True)
class Question:
    """A question to judge; ``id``: of the held-out row; ``answers``: by model."""

    id: str
    text: str
    topic: str
    answers: Mapping[str, str]


def questions_with_answers(config: Config, models: Sequence[str], count: int) -> list[Question]:
    """Draw questions spread over topics, each with the answers of the models.

    Args:
        config: the run, and the seed of the draw.
        models: names in ``samples.jsonl``, or ``reference``.
        count: how many; fewer where there are fewer.

    Raises:
        InputError: there are no samples, or none with answers of a model.
    """
    run = RunFolder(Path(config.run_dir))
    path = run.eval_dir / SAMPLES_NAME
    written = [name for name in models if name != REFERENCE]
    if not path.exists():
        raise InputError(f"no answers in {path}", f"generate them: {_command(written)} --limit {2 * count}")
    samples = read_samples(path)
    for name in written:
        if name not in samples:
            known = [*samples, REFERENCE]
            raise InputError(
                f"{path} holds no answers of '{name}', but of {listed(known)}{did_you_mean(name, known)}",
                f"measure it: {_command(written)}; or leave it out: --models {','.join(known[:3])}",
            )
        if all(sample.answer is None for sample in samples[name]):
            raise InputError(
                f"{path} holds no answers of '{name}': only likelihoods were measured",
                f"generate them: {_command(written)} --limit {2 * count}",
            )
    first = next(iter(samples.values()))
    following = sum(bool(sample.earlier or sample.context) for sample in first)
    if following:
        console.warn(
            f"{following} of {len(first)} questions follow on earlier turns or have a context, which a review does not "
            "show: they are left out"
        )
    if following == len(first):
        raise InputError("no question stands alone", "a review needs questions without earlier turns and context")
    rows: dict[str, int] = {}
    for number, sample in enumerate(first):
        if sample.earlier or sample.context:
            continue
        if all(samples[name][number].answer is not None for name in written):
            # Rows that ask the same have the same answers.
            rows.setdefault(normalize(sample.question), number)
    numbers = list(rows.values())
    topics = topic_keys([first[number] for number in numbers])
    return [_question(number, samples, models) for number in spread(numbers, topics, count, config.seed)]


def _question(number: int, samples: Mapping[str, Sequence[Sample]], models: Sequence[str]) -> Question:
    row = next(iter(samples.values()))[number]
    answers = {name: row.references[0] if name == REFERENCE else samples[name][number].answer or "" for name in models}
    return Question(row.id, row.question, row.topic, answers)


def _command(models: Sequence[str]) -> str:
    local = [name for name in models if name in MODEL_NAMES]
    return f"medqa eval --model {','.join(local or ('adapter', 'base'))} --set eval.metrics=all"
