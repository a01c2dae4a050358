"""``--fail-on``: conditions on the figures under which a run counts as failed, in a small grammar.

    CONDITION = FIGURE OPERATOR (FIGURE | NUMBER)
    FIGURE    = NAME "." METRIC | NAME "." SET "." METRIC
    OPERATOR  = "<" | "<=" | ">" | ">="

for instance ``adapter.nll > base.nll``, ``adapter.pubmedqa.accuracy <= 0.55``. Nothing is evaluated as code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation.metrics import STRIPPED, all_names, metric, text_metrics
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
    """A figure of the results: of a model, a floor or a difference; ``set_name``: of a multiple-choice set."""

    name: str
    metric: str
    set_name: str | None = None

    def __str__(self) -> str:
        return ".".join(part for part in (self.name, self.set_name, self.metric) if part)

    def value(self, results: Mapping[str, Any]) -> float:
        """Look the figure up.

        Raises:
            InputError: the results do not hold it.
        """
        places = [results[kind] for kind in ("models", "floors", "differences")]
        if self.set_name is not None:
            own = results.get("multiple_choice", {}).get(self.set_name, {})
            places = [own.get(kind, {}) for kind in ("models", "floors", "differences")]
        for place in places:
            if self.metric in place.get(self.name, {}):
                return float(place[self.name][self.metric]["value"])
        known = sorted(
            {f"{name}.{metric}" for place in places for name, figures in place.items() for metric in figures}
        )
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

    def holds(self, results: Mapping[str, Any]) -> bool:
        """Tell whether the condition for failing holds.

        Raises:
            InputError: a figure was not measured.
        """
        right = self.right if isinstance(self.right, float) else self.right.value(results)
        left = self.left.value(results)
        # No comparison with a NaN holds, which would let it pass.
        return math.isnan(left) or math.isnan(right) or _OPERATORS[self.operator](left, right)

    def found(self, results: Mapping[str, Any]) -> str:
        """Return the condition with the values that it met."""
        left = f"{self.left} is {self.left.value(results):.4g}"
        if isinstance(self.right, float):
            return f"{self.text}: {left}"
        return f"{self.text}: {left}, {self.right} is {self.right.value(results):.4g}"


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Parse the conditions before any work is done.

    Raises:
        InputError: one is not in the grammar, or names an unknown metric.
    """
    return [_parse(text) for text in texts]


def require_measured(conditions: Sequence[Condition], metrics: Sequence[str], sets: Sequence[str]) -> None:
    """Check, before anything is measured, that each figure is going to be.

    Args:
        conditions: of ``parse_conditions``.
        metrics: the config's ``eval.metrics``, written out.
        sets: names of the config's ``eval.multiple_choice``.

    Raises:
        InputError: one is not.
    """
    measured = {*metrics, *text_metrics(metrics)}
    for condition in conditions:
        for figure in (condition.left, condition.right):
            if isinstance(figure, float):
                continue
            if figure.set_name is not None:
                if figure.set_name not in sets:
                    raise InputError(
                        f"--fail-on: no multiple-choice file {figure.set_name}", "see eval.multiple_choice"
                    )
            elif metric(figure.metric).group == "choice":
                raise InputError(f"--fail-on: {figure} is of a multiple-choice file", "write MODEL.FILE.METRIC")
            elif figure.metric not in measured:
                name = figure.metric.removesuffix(STRIPPED)
                raise InputError(f"--fail-on: eval.metrics leaves out {name}", f"add {name} to eval.metrics, or all")


def check_gate(conditions: Sequence[Condition], results: Mapping[str, Any]) -> None:
    """Fail if any condition holds.

    Raises:
        InputError: a figure was not measured.
        MedqaError: conditions hold; the message names all of them.
    """
    met = [condition.found(results) for condition in conditions if condition.holds(results)]
    if met:
        raise MedqaError("\n".join(f"--fail-on {text}" for text in met))


def _parse(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise InputError(f"--fail-on '{text}' is no condition", _EXAMPLE)
    right = match["right"]
    return Condition(
        " ".join(text.split()),
        _figure(match["left"], text),
        match["operator"],
        float(right) if _NUMBER.fullmatch(right) else _figure(right, text),
    )


def _figure(word: str, text: str) -> Figure:
    match = _FIGURE.fullmatch(word)
    if match is None:
        raise InputError(f"--fail-on '{text}': '{word}' is neither a figure nor a number", _EXAMPLE)
    if match["metric"] not in all_names():
        meant = did_you_mean(match["metric"], all_names())
        raise InputError(f"--fail-on '{text}': unknown metric '{match['metric']}'{meant}", ", ".join(all_names()))
    return Figure(match["name"], match["metric"], match["set"])
