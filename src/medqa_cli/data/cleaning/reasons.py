"""Why a row is left out: the reasons of ``resources/reasons.yaml``, and which of them the config switches off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medqa_cli.data.wording import listed
from medqa_cli.errors import ConfigError
from medqa_cli.resources import load_yaml
from medqa_cli.spelling import did_you_mean


@dataclass(frozen=True)
class Reason:
    """A reason.

    Attributes:
        doc: what it is, in one line.
        enabled: whether it counts unless the config says otherwise.
        fixed: why it cannot be switched off; empty: it can.
    """

    doc: str
    enabled: bool = True
    fixed: str = ""


REASONS: dict[str, Reason] = {name: Reason(**fields) for name, fields in load_yaml("reasons").items()}
"""The reasons that judge a row. All others say that a row cannot be read, and cannot be switched off."""

SHOWN = ("answer_is_question", "stub", "link_list", "none_answer", "several_turns")
"""The reasons that a row gives by itself, whatever the others are."""


def how_to_keep(reason: str) -> str:
    """Return the option that keeps the rows that a reason takes; empty where nothing can."""
    known = REASONS.get(reason)
    return "" if known is None or known.fixed else f"--set 'data.reasons={{{reason}: false}}'"


def enabled_reasons(reasons: Mapping[str, bool]) -> frozenset[str]:
    """Return the names of the reasons that count.

    Args:
        reasons: the section ``data.reasons``: reasons switched on or off by name.

    Returns:
        the names.

    Raises:
        ConfigError: names that are no reasons, or reasons that cannot be switched off; all of them.
    """
    problems = [
        f"data.reasons.{name}: no such reason{did_you_mean(name, REASONS)}" for name in reasons if name not in REASONS
    ]
    problems += [
        f"data.reasons.{name}: cannot be switched off: {REASONS[name].fixed}"
        for name, counts in reasons.items()
        if name in REASONS and not counts and REASONS[name].fixed
    ]
    if problems:
        names = [name for name, reason in REASONS.items() if not reason.fixed]
        raise ConfigError(problems, f"the reasons to switch are {listed(names)}")
    return frozenset(name for name, reason in REASONS.items() if reasons.get(name, reason.enabled))
