"""What one key cannot tell: names that other libraries define, and keys that must fit together.

Does not read files. The lists of names are written out because importing Transformers takes seconds; a test compares
them with the installed version.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from encodings import aliases
from pathlib import PurePath

from medqa_cli.config.keys import closest, quoted
from medqa_cli.config.schema import Config

# transformers.trainer_utils.SchedulerType
SCHEDULERS = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "greedy",
)
# Their functions have a required argument (min_lr, num_decay_steps) for which there is no key.
SCHEDULERS_WITH_ARGUMENTS = ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay")
_SCHEDULERS_THAT_WATCH = ("reduce_lr_on_plateau", "greedy")

# transformers.training_args.OptimizerNames
OPTIMIZERS = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adafactor",
    "adamw_anyprecision",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "ademamix",
    "sgd",
    "adagrad",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "ademamix_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "lomo",
    "adalomo",
    "grokadamw",
    "schedule_free_radam",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "stable_adamw",
)
# They refuse to start without optim_target_modules, for which there is no key.
OPTIMIZERS_WITH_ARGUMENTS = (
    "galore_adamw",
    "galore_adamw_8bit",
    "galore_adafactor",
    "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise",
    "apollo_adamw",
    "apollo_adamw_layerwise",
)
TRACKERS = ("none", "tensorboard", "wandb", "mlflow", "trackio")
TEMPLATES = ("llama2", "chat", "alpaca", "plain")
TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2", ".txt")

# Codecs of Python that are made for pieces of source code and names of hosts.
_NO_FILES = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")

CHOICES = {
    "train.lr_scheduler_type": SCHEDULERS,
    "train.optim": OPTIMIZERS,
    "train.report_to": TRACKERS,
    "prompt.template": TEMPLATES,
}
"""Keys whose type is text but whose values are names from a list (prompt.template: or a path)."""


@dataclass(frozen=True)
class Finding:
    """A problem between keys; ``keys`` are all that it depends on, the one to name first."""

    keys: tuple[str, ...]
    message: str


def check(config: Config) -> list[tuple[str, str]]:
    """Return the problems of a whole configuration as pairs of a dotted key and a full sentence."""
    return [(finding.keys[0], finding.message) for finding in findings(config)]


def findings(config: Config, unsure: Collection[str] = ()) -> list[Finding]:
    """Return the problems of a whole configuration.

    Args:
        config: the values; defaults stand in for what could not be read.
        unsure: keys whose value could not be read, so that nothing can be said about them.
    """
    found = (finding for rule in _RULES for finding in rule(config))
    return [finding for finding in found if not set(finding.keys) & set(unsure)]


def _fractions(config: Config) -> Iterator[Finding]:
    validation, test = config.data.validation_fraction, config.data.test_fraction
    # Decimal fractions such as 0.7 and 0.3 must not pass by a rounding error.
    if validation + test >= 1 - 1e-9:
        yield Finding(
            ("data.validation_fraction", "data.test_fraction"),
            f"data.validation_fraction and data.test_fraction must be below 1 together, got {validation} and {test}; "
            "nothing would be left to train on",
        )


def _max_steps(config: Config) -> Iterator[Finding]:
    if config.train.max_steps == 0:
        yield Finding(
            ("train.max_steps",), "train.max_steps must be -1 (train by num_train_epochs) or at least 1, got 0"
        )


def _looks_at_validation(config: Config) -> Iterator[Finding]:
    train = config.train
    if train.eval_steps is None and train.early_stopping_patience is not None:
        yield Finding(
            ("train.early_stopping_patience", "train.eval_steps"),
            "train.early_stopping_patience needs train.eval_steps; set how often the validation split is looked at",
        )
    if train.eval_steps is None and train.lr_scheduler_type in _SCHEDULERS_THAT_WATCH:
        yield Finding(
            ("train.lr_scheduler_type", "train.eval_steps"),
            f"train.lr_scheduler_type {train.lr_scheduler_type} needs train.eval_steps; it follows the validation loss",
        )


def _names(config: Config) -> Iterator[Finding]:
    train = config.train
    for key, value, refused, reason in (
        ("train.lr_scheduler_type", train.lr_scheduler_type, SCHEDULERS_WITH_ARGUMENTS, "further arguments"),
        ("train.optim", train.optim, OPTIMIZERS_WITH_ARGUMENTS, "optim_target_modules"),
        ("train.report_to", train.report_to, (), ""),
    ):
        if value in refused:
            yield Finding((key,), f"{key} {value} needs {reason}, which medqa has no key for; choose another")
        elif value not in CHOICES[key]:
            yield Finding((key,), f"{key} must be one of {', '.join(CHOICES[key])}, got {_meant(value, CHOICES[key])}")


def _encoding(config: Config) -> Iterator[Finding]:
    name = config.data.encoding
    if name is not None and not _is_text_codec(name):
        yield Finding(
            ("data.encoding",),
            f"data.encoding must be an encoding that Python knows, e.g. utf-8, cp1251, gb18030 or shift_jis, got "
            f"{_meant(name, tuple(filter(_is_text_codec, sorted(aliases.aliases))))}",
        )


def _is_text_codec(name: str) -> bool:
    try:
        b"a".decode(name)
        return codecs.lookup(name).name not in _NO_FILES
    except (LookupError, UnicodeError, ValueError):
        return False


def _template(config: Config) -> Iterator[Finding]:
    template = config.prompt.template
    is_path = "/" in template or "\\" in template or PurePath(template).suffix in TEMPLATE_SUFFIXES
    if template not in TEMPLATES and not is_path:
        yield Finding(
            ("prompt.template",),
            f"prompt.template must be one of {', '.join(TEMPLATES)} or the path of a Jinja file "
            f"({', '.join(TEMPLATE_SUFFIXES)}), got {_meant(template, TEMPLATES)}",
        )


def _meant(value: str, choices: tuple[str, ...]) -> str:
    near = closest(value, choices)
    return quoted(value) + (f"; did you mean {near}?" if near else "")


_RULES: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _fractions,
    _max_steps,
    _looks_at_validation,
    _names,
    _encoding,
    _template,
)
