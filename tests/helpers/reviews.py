"""A run that was measured, a review made of it, and what its raters give back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli.config.schema import Config
from medqa_cli.evaluation.samples import Sample, write_samples
from medqa_cli.files import RunFolder
from medqa_cli.review.judgments import Key, read_key
from medqa_cli.review.make import Request, make_review

TOPICS = ("asthma", "gout", "mumps", "anemia", "eczema", "glaucoma", "migraine", "scabies", "tetanus", "rabies")
KINDS = ("What is {}?", "How is {} treated?", "What causes {}?")
MODELS = ("adapter", "base", "reference")
# What each model says of everything: a page that shows it must not say whose it is.
SAYS = {"adapter": "Rest and fluids help.", "base": "It is a disease of people.", "reference": "Ask a doctor about it."}


def samples_of(model: str, questions: Sequence[str] = (), answers: Mapping[str, str] | None = None) -> list[Sample]:
    """Return samples: three questions of each of ten topics, or one of each topic for further questions."""
    asked = [(topic, kind.format(topic)) for kind in KINDS for topic in TOPICS]
    asked += [(f"topic {number}", question) for number, question in enumerate(questions)]
    answers = answers or {}
    return [
        Sample(
            id=f"row-{number}",
            topic=topic,
            model=model,
            question=question,
            references=(f"Of {topic}: {answers.get('reference', SAYS['reference'])}",),
            answer=f"Of {topic}: {answers.get(model) or SAYS[model]}",
            finish_reason="stop",
        )
        for number, (topic, question) in enumerate(asked)
    ]


def measured_run(folder: Path, questions: Sequence[str] = (), answers: Mapping[str, str] | None = None) -> Config:
    """Write the samples of adapter and base as ``medqa eval`` does; return the config of the run."""
    run = RunFolder(folder / "run")
    run.eval_dir.mkdir(parents=True)
    samples = [sample for model in ("adapter", "base") for sample in samples_of(model, questions, answers)]
    write_samples(run.eval_dir / "samples.jsonl", samples)
    return Config(run_dir=str(run.path))


def make(config: Config, **changes: Any) -> tuple[Key, dict[str, Any]]:
    """Make a review for anna and ben; return its key and what was said to be written."""
    options = {"num_questions": 12, "raters": ("anna", "ben"), "models": MODELS, "num_shared": 4, **changes}
    made = make_review(config, Request(**options))
    return read_key(Path(made["key"])), made


def given_back(key: Key, rater: str, /, **changes: Any) -> dict[str, Any]:
    """Return what the page of a rater saves who says yes to everything about X, no about Y, and that X is better."""
    pairs = [
        {
            "id": pair.id,
            "x": dict.fromkeys(key.form.ids, True),
            "y": dict.fromkeys(key.form.ids, False),
            "better": "x",
            "cannot_judge": False,
            "remark": "",
            "seconds": 12.3,
        }
        for pair in key.pairs_of(rater)
    ]
    return {"format_version": 1, "review": key.review, "rater": rater, "pairs": pairs, **changes}
