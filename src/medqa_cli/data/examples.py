"""``convert --show``: what a cleaning rule, a reason or the search for identifiers does, for a person to judge.

This is the one place where the value of an identifier is shown.
"""

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medqa_cli.data.cleaning.reasons import REASONS, SHOWN, non_answer, unusable
from medqa_cli.data.cleaning.rules import RULES, clean, enabled_rules
from medqa_cli.data.conversations import clean_talk, usable_part
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import KINDS, Find
from medqa_cli.data.identifiers.model_finds import ModelSearch
from medqa_cli.data.normalize import key_of, rank_of
from medqa_cli.data.reading.shapes import SourceRows, UnreadRow
from medqa_cli.errors import ConfigError
from medqa_cli.spelling import did_you_mean, listed

IDENTIFIERS = "identifiers"
CONTEXT_CHARACTERS = 60
LONGEST_SHOWN = 400


@dataclass(frozen=True)
class IdentifierExample:
    """A find; ``context`` is the text around it, with the find between >> and << and line breaks as ⏎.

    ``by_model``: the rules alone do not find it, or not all of it.
    """

    file: str
    row: int
    line: int | None
    field: str
    kind: str
    found: str
    context: str
    by_model: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return its fields; ``by_model`` only where it is true."""
        return {name: value for name, value in asdict(self).items() if name != "by_model" or value}


def identifier_examples(
    opened: SourceRows, cleaning: Mapping[str, bool], count: int, seed: int, search: ModelSearch | None = None
) -> list[IdentifierExample]:
    """Draw finds of each kind from the rows of a source, as they are after cleaning; rejected rows are among them.

    Args:
        opened: the source.
        cleaning: the section ``data.cleaning``.
        count: most finds of a kind to return.
        seed: draws them.
        search: looks for them; None: the rules do.

    Returns:
        the finds by kind, and of one kind in the order of the source.
    """
    drawn: dict[str, list[tuple[bytes, int, IdentifierExample]]] = {kind: [] for kind in KINDS}
    for number, (key, example) in enumerate(_finds_in_rows(opened, cleaning, search)):
        rank = bytes(255 - byte for byte in rank_of(seed, "show", key))  # the heap drops its smallest
        push = heapq.heappush if len(drawn[example.kind]) < count else heapq.heappushpop
        push(drawn[example.kind], (rank, number, example))
    return [example for kind in KINDS for _, _, example in sorted(drawn[kind], key=lambda item: item[1])]


def _finds_in_rows(
    opened: SourceRows, cleaning: Mapping[str, bool], search: ModelSearch | None
) -> Iterator[tuple[bytes, IdentifierExample]]:
    rules = enabled_rules(cleaning)
    for row in opened.rows:
        if isinstance(row, UnreadRow) or unusable(row.question, row.answer):
            continue
        texts: Mapping[str, str]
        finds: Sequence[Find]
        if row.talk is None:
            question, answer, _ = clean(row.question, row.answer, rules)
            texts, finds = {"question": question, "answer": answer}, find_in_row(question, answer, search)
        else:
            # A conversation is looked through at its end.
            talk = usable_part(row.talk)
            made = clean_talk(talk, rules, "report", 0, search)
            texts, finds = made.texts(), made.finds if row.turn + 1 == len(talk.turns) else ()
        for find in finds:
            text = texts[find.field]
            found = text[find.start : find.end]
            first, last = max(find.start - CONTEXT_CHARACTERS, 0), find.end + CONTEXT_CHARACTERS
            parts = (text[first : find.start], ">>", found, "<<", text[find.end : last])
            context = "..." * (first > 0) + "".join(parts).replace("\n", "⏎") + "..." * (last < len(text))
            key = key_of(*texts.values(), find.field, str(find.start))
            place = (row.file, row.row, row.line, find.field)
            yield key, IdentifierExample(*place, find.kind, found, context, find.by_model)


@dataclass(frozen=True)
class RuleExample:
    """One text before and after a rule, cut to what differs and some characters around it; line breaks as ⏎.

    Of a reason ``before`` is the answer and ``after`` empty: the row is left out.
    """

    file: str
    row: int
    line: int | None
    field: str
    before: str
    after: str


def rule_examples(
    opened: SourceRows, rule: str, cleaning: Mapping[str, bool], count: int, seed: int
) -> list[RuleExample]:
    """Draw rows that a rule changes, after the enabled rules that come before it, or that a reason leaves out.

    Args:
        opened: the source.
        rule: name of the rule or of one of ``reasons.SHOWN``; it may be switched off.
        cleaning: the section ``data.cleaning``.
        count: most examples to return.
        seed: draws them.

    Returns:
        the examples in the order of the source; rows that ``convert`` rejects later are among them.

    Raises:
        ConfigError: there is no such rule or reason.
    """
    if rule in RULES:
        names = enabled_rules({**cleaning, rule: True})
        examples = _examples(opened, rule, names[: names.index(rule)])
    elif rule in SHOWN:
        examples = _examples(opened, rule, enabled_rules(cleaning))
    else:
        problem = f"--show {rule}: no such cleaning rule or reason{did_you_mean(rule, (*RULES, *SHOWN))}"
        if rule in REASONS:
            problem = f"--show {rule}: whether a row is left out for it depends on other rows or on the file as a whole"
        raise ConfigError([problem], f"those that can be shown are {listed((*RULES, *SHOWN))}")
    ranked = ((rank_of(seed, "show", key), number, example) for number, (key, example) in enumerate(examples))
    drawn = heapq.nsmallest(count, ranked)
    return [example for _, _, example in sorted(drawn, key=lambda item: item[1])]


def _examples(opened: SourceRows, rule: str, earlier: Sequence[str]) -> Iterator[tuple[bytes, RuleExample]]:
    """Yield what a rule changes or a reason leaves out after the earlier rules, each with a key to draw it by."""
    for row in opened.rows:
        if isinstance(row, UnreadRow) or unusable(row.question, row.answer):
            continue
        before = clean(row.question, row.answer, earlier)
        if rule in RULES:
            after = clean(before.question, before.answer, [rule])
            for field in ("question", "answer"):
                old, new = getattr(before, field), getattr(after, field)
                if old != new:
                    yield key_of(old), RuleExample(row.file, row.row, row.line, field, *_difference(old, new))
        elif non_answer(before.question, before.answer, (rule,)):
            shown = _shown(before.answer, 0, len(before.answer))
            yield key_of(row.question, row.answer), RuleExample(row.file, row.row, row.line, "answer", shown, "")


def _difference(old: str, new: str) -> tuple[str, str]:
    """Cut two texts to the part in which they differ."""
    same_start = _shared_length(old, new)
    rest_old, rest_new = old[same_start:], new[same_start:]
    same_end = _shared_length(rest_old[::-1], rest_new[::-1])
    start, same = max(same_start - CONTEXT_CHARACTERS, 0), max(same_end - CONTEXT_CHARACTERS, 0)
    return _shown(old, start, len(old) - same), _shown(new, start, len(new) - same)


def _shared_length(a: str, b: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _shown(text: str, start: int, end: int) -> str:
    part = text[start:end].replace("\n", "⏎")
    if len(part) > LONGEST_SHOWN:
        part = f"{part[: LONGEST_SHOWN // 2]} [...] {part[-LONGEST_SHOWN // 2 :]}"
    return ("..." if start > 0 else "") + part + ("..." if end < len(text) else "")
