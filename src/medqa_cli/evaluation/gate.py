"""``--fail-on``: conditions on the figures that make a run fail, in a small grammar.

    CONDITION = FIGURE OPERATOR (FIGURE | NUMBER)
    FIGURE    = NAME "." METRIC | NAME "." SET "." METRIC
    OPERATOR  = "<" | "<=" | ">" | ">="

for instance ``adapter.nll > base.nll``, ``adapter.pubmedqa.accuracy <= 0.55``. Nothing is evaluated as code.
"""

import contextlib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation.arms import ARMS, GOLD_PASSAGE, OPEN_BOOK
from medqa_cli.evaluation.baselines import CUT_REFERENCE, REFERENCE, TRIVIAL, UNIGRAM
from medqa_cli.evaluation.metrics import STRIPPED, all_names, in_group, metric, text_metrics
from medqa_cli.evaluation.openai_client import PREFIX, SERVED
from medqa_cli.evaluation.results import MAJORITY, pairs_of
from medqa_cli.evaluation.samples import GREEDY
from medqa_cli.model.gguf_model import OF_RUN
from medqa_cli.spelling import did_you_mean

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"\s*(?P<left>[^\s<>=]+)\s*(?P<operator><=|>=|<|>)\s*(?P<right>[^\s<>=]+)\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_FIGURE = re.compile(r"(?P<name>[A-Za-z_][\w-]*)\.(?:(?P<set>[\w-]+)\.)?(?P<metric>[A-Za-z]\w*)")
_EXAMPLE = "write it like 'adapter.nll > base.nll' or 'adapter.loop_rate > 0.02'"


@dataclass(frozen=True)
class Figure:
    """A figure of a model, a baseline or a difference; ``set_name``: of a multiple-choice set."""

    name: str
    metric: str
    set_name: str | None = None

    def __str__(self) -> str:
        return ".".join(part for part in (self.name, self.set_name, self.metric) if part)

    def value(self, results: Mapping[str, Any]) -> float:
        """Look the figure up; NaN if no answer or row says anything about it, such as one that cites no source.

        Raises:
            InputError: the results do not hold it.
        """
        if self.set_name is not None:
            results = results.get("multiple_choice", {}).get(self.set_name, {})
        kinds = [results.get(kind, {}) for kind in ("models", "floors", "differences")]
        for kind in kinds:
            if self.metric in kind.get(self.name, {}):
                return float(kind[self.name][self.metric]["value"])
        asked = {*results.get("settings", {}).get("metrics", ())}
        of_arm = self.metric in in_group("grounding") and self.name.endswith(ARMS)
        of_model = self.metric in in_group("memorization") and not self.name.endswith((GREEDY, *ARMS))
        if self.metric in asked and (of_arm or of_model) and self.name in results.get("models", {}):
            return math.nan
        known = sorted({f"{name}.{metric}" for kind in kinds for name, figures in kind.items() for metric in figures})
        raise InputError(
            f"--fail-on: {self} was not measured",
            f"measured: {', '.join(known)}" if known else "nothing was measured there",
        )


@dataclass(frozen=True)
class Condition:
    """One ``--fail-on``."""

    text: str
    left: Figure
    operator: str
    right: Figure | float


def parse_conditions(texts: Sequence[str], known: Sequence[str] | None = None) -> list[Condition]:
    """Parse the conditions before any work is done.

    Args:
        texts: as they were typed.
        known: the names of figures; None: the metrics of the evaluation.

    Raises:
        InputError: one is not in the grammar, or names an unknown metric.
    """
    known = all_names() if known is None else known
    conditions = []
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise InputError(f"--fail-on '{text}' is not a condition", _EXAMPLE)
        left, word = _figure(match["left"], text, known), match["right"]
        right = float(word) if _NUMBER.fullmatch(word) else _figure(word, text, known)
        conditions.append(Condition(" ".join(text.split()), left, match["operator"], right))
    return conditions


def _figure(word: str, text: str, known: Sequence[str]) -> Figure:
    match = _FIGURE.fullmatch(word)
    if match is None:
        raise InputError(f"--fail-on '{text}': '{word}' is neither a figure nor a number", _EXAMPLE)
    if match["metric"] not in known:
        meant = did_you_mean(match["metric"], known)
        raise InputError(f"--fail-on '{text}': unknown metric '{match['metric']}'{meant}", ", ".join(known))
    return Figure(match["name"], match["metric"], match["set"])


def require_measured(conditions: Sequence[Condition], config: Config, models: Sequence[str]) -> None:
    """Check, before anything is measured, that every figure will be.

    Args:
        conditions: of ``parse_conditions``.
        config: what is measured.
        models: as ``--model`` names them.

    Raises:
        InputError: one will not be measured.
    """
    metrics = {*config.eval.metric_names, *text_metrics(config.eval.metric_names)}
    sets = [choices.name for choices in config.eval.multiple_choice]
    for figure in (side for condition in conditions for side in (condition.left, condition.right)):
        if isinstance(figure, float):
            continue
        is_choice = metric(figure.metric).group == "choice"
        if figure.set_name is None and is_choice:
            raise InputError(f"--fail-on: {figure} is of a multiple-choice file", "write MODEL.FILE.METRIC")
        if figure.set_name is None and figure.metric not in metrics:
            name = figure.metric.removesuffix(STRIPPED)
            raise InputError(f"--fail-on: eval.metrics leaves out {name}", f"add {name} to eval.metrics, or all")
        if figure.set_name is not None and figure.set_name not in sets:
            raise InputError(f"--fail-on: no multiple-choice file {figure.set_name}", "see eval.multiple_choice")
        if figure.set_name is not None and not is_choice:
            known = ", ".join(in_group("choice"))
            raise InputError(f"--fail-on: {figure} is not measured on multiple-choice files", f"on them: {known}")
        if figure.name not in (names := names_with(figure.metric, config, models)):
            meant = did_you_mean(figure.name, names)
            known = f"measured: {', '.join(names)}" if names else "measured of none of the models that are named"
            if not names and metric(figure.metric).group == "grounding":
                known = "it is of answers with sources: prompt.sources"
            raise InputError(f"--fail-on: {figure} will not be measured{meant}", known)


def names_with(metric_name: str, config: Config, models: Sequence[str]) -> list[str]:
    """Return the models, arms, baselines and differences that will have a figure; arguments as ``require_measured``."""
    local = [name for name in models if not name.startswith(PREFIX)]
    of_weights = [name for name in local if name != OF_RUN]
    arms = [name + arm for name in local for arm in (ARMS if config.prompt.sources else ())]
    group = metric(metric_name).group
    if group == "grounding":
        # Only where a source holds the answer can an answer cite it.
        return [name for name in arms if name.endswith(OPEN_BOOK) or metric_name != "citation_recall"]
    floors: tuple[str, ...]
    if group in ("choice", "memorization"):
        compared, floors = of_weights, (MAJORITY,) if group == "choice" else ()
    elif group == "likelihood":  # of the references, without sources, by weights that are here
        compared, floors = local, (UNIGRAM,)
    else:
        greedy = [name + GREEDY for name in local if config.generate.loop_retries]
        compared = [*local, *greedy, *arms, *([SERVED] if len(local) < len(models) else [])]
        floors = (*(name for name in TRIVIAL if name != UNIGRAM), GOLD_PASSAGE, CUT_REFERENCE, REFERENCE)
    # Of memorization only rates of the same rows are compared.
    pairs = pairs_of(compared) if group != "memorization" or metric_name == "memorized_rate" else ()
    return [*compared, *floors, *("-".join(pair) for pair in pairs)]


def with_gate(results: dict[str, Any], conditions: Sequence[Condition]) -> dict[str, Any]:
    """Put ``gate`` into the results where there are conditions: which of them hold, and so fail.

    One whose figure was not measured is left out; ``check_gate`` names it.
    """
    found = []
    for condition in conditions:
        with contextlib.suppress(InputError):
            found.append({"condition": condition.text, "failed": bool(_failed(condition, results))})
    return results | {"gate": found} if found else results


def check_gate(conditions: Sequence[Condition], results: Mapping[str, Any]) -> None:
    """Fail if any condition holds.

    Raises:
        InputError: a figure was not measured.
        MedqaError: conditions hold; the message names all of them.
    """
    if met := [said for condition in conditions if (said := _failed(condition, results))]:
        raise MedqaError("\n".join(met))


def _failed(condition: Condition, results: Mapping[str, Any]) -> str:
    """Say that a condition holds, with its values; empty where it does not."""
    right = condition.right if isinstance(condition.right, float) else condition.right.value(results)
    left = condition.left.value(results)
    # No comparison with NaN holds, so it would pass.
    if not (math.isnan(left) or math.isnan(right) or _OPERATORS[condition.operator](left, right)):
        return ""
    values = f"{condition.left} is {_shown(left)}"
    values += "" if isinstance(condition.right, float) else f", {condition.right} is {_shown(right)}"
    return f"--fail-on {condition.text}: {values}"


def _shown(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4g}"
