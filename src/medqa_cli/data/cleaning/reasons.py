"""Why a row is left out: each reason by name, what it means, and which of them the config can switch off.

Does not judge rows: ``unhelpful``, ``dedup`` and the readers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medqa_cli.data.wording import listed
from medqa_cli.errors import ConfigError
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


_NOTHING_TO_KEEP = "nothing could be kept of such a row"

REASONS: dict[str, Reason] = {
    "answer_is_question": Reason("The answer only asks back, or only says the question again."),
    "stub": Reason("The answer is a page heading, 'not available', or 'see above'."),
    "link_list": Reason("The answer is a list of titles of links, or addresses only."),
    "none_answer": Reason(
        "The answer is the one word 'None', which Python also writes for a missing value.", enabled=False
    ),
    "several_turns": Reason("The text holds more turns of patient and doctor than one question and its answer."),
    "exact_duplicate": Reason("Question and answer as in an earlier row; case, punctuation and spaces aside."),
    "over_copy_limit": Reason("More than data.max_copies_of_an_answer rows with the same answer."),
    "near_duplicate_of_test": Reason(
        "The answer is equal or nearly equal to one of the test split.",
        fixed="without it the held-out rows are not held out; see data.near_duplicate_threshold",
    ),
    "near_duplicate_of_validation": Reason(
        "The answer is equal or nearly equal to one of the validation split.",
        fixed="without it the held-out rows are not held out; see data.near_duplicate_threshold",
    ),
    "not_sampled": Reason("Not drawn, where data.max_rows is set.", fixed="set data.max_rows: null instead"),
    "empty_question": Reason("Nothing visible, or a sign for a missing value.", fixed=_NOTHING_TO_KEEP),
    "empty_answer": Reason("Nothing visible, or a sign for a missing value.", fixed=_NOTHING_TO_KEEP),
}
"""The reasons that judge a row. All others say that a row cannot be read, and cannot be switched off."""

SHOWN = ("answer_is_question", "stub", "link_list", "none_answer", "several_turns")
"""The reasons that a row gives by itself, whatever the others are."""


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
