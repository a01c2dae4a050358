"""The catalogue of all configuration keys, built from the dataclasses, and the search for the key that was meant.

Does not read or check values: see ``values`` and ``load``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from medqa_cli.config.schema import SECTIONS, Config

BOUND_NAMES = ("at_least", "above", "at_most", "below")
_SHOWN_CHARACTERS = 60

# Names under which other tools know our keys and which are too far from ours for a spelling distance.
KNOWN_AS = {
    "train.batch_size": "train.per_device_train_batch_size",
    "train.gradient_clipping": "train.max_grad_norm",
    "train.scheduler": "train.lr_scheduler_type",
    "alpha": "lora.lora_alpha",
    "base_model": "model.name_or_path",
    "dropout": "lora.lora_dropout",
    "dtype": "model.compute_dtype",
    "epochs": "train.num_train_epochs",
    "grad_accum": "train.gradient_accumulation_steps",
    "load_in_4bit": "model.quantization",
    "lr": "train.learning_rate",
    "max_seq_length": "model.max_length",
    "model_name_or_path": "model.name_or_path",
    "optimizer": "train.optim",
    "output_dir": "run_dir",
    "rank": "lora.r",
    "system_prompt": "prompt.system",
}


@dataclass(frozen=True)
class Key:
    """One key that can be set: what ``sections`` declares about it."""

    dotted: str
    type: Any
    default: Any
    doc: str
    bounds: dict[str, float]
    commands: tuple[str, ...] = ()
    is_path: bool = False

    @property
    def may_be_blank(self) -> bool:
        """Whether an empty text makes sense; an empty path would silently mean the current folder."""
        return self.dotted == "prompt.system"


def keys_of(section: type, prefix: str = "", commands: tuple[str, ...] = ()) -> dict[str, Key]:
    """Return the keys of one dataclass by name, in their order; ``commands`` are those of keys that name none."""
    types = get_type_hints(section)
    found = {}
    for field in fields(section):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        bounds = {name: field.metadata[name] for name in BOUND_NAMES if field.metadata.get(name) is not None}
        found[field.name] = Key(
            dotted=prefix + field.name,
            type=types[field.name],
            default=default,
            doc=field.metadata.get("doc", ""),
            bounds=bounds,
            commands=field.metadata.get("commands") or commands,
            is_path=bool(field.metadata.get("is_path")),
        )
    return found


def _all_keys() -> dict[str, Key]:
    found = {}
    for name, top in keys_of(Config).items():
        inner = keys_of(top.type, f"{name}.", top.commands) if name in SECTIONS else {name: top}
        found.update({key.dotted: key for key in inner.values()})
    return found


KEYS: dict[str, Key] = _all_keys()
"""Every key that holds a value, by its dotted name, in the order of the file."""


def printable(name: str) -> str:
    """Return a name from the user's file as it can be shown: short, and without control characters."""
    if len(name) > _SHOWN_CHARACTERS:
        name = name[:_SHOWN_CHARACTERS] + "…"
    return name if name.isprintable() and name and name == name.strip() else json.dumps(name, ensure_ascii=False)


def quoted(text: str) -> str:
    """Return a text value in double quotes, shortened, without control characters."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return json.dumps(shown, ensure_ascii=not shown.isprintable())


def closest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that ``word`` probably means, or None if none is near."""
    ranked = [(cost, choice) for choice in choices if (cost := _cost(word, choice)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def suggest(section: str, name: str, *, is_mapping: bool = False) -> str | None:
    """Return the dotted key (or the section) that somebody probably meant, or None.

    Args:
        section: the section as it was written, "" at the top level.
        name: the key as it was written.
        is_mapping: the key's value is a mapping, so that a section is likelier than a key.
    """
    known = KNOWN_AS.get(f"{section}.{name}") or KNOWN_AS.get(name)
    if known is not None:
        return known
    ranked = []
    for candidate in (*SECTIONS, *KEYS):
        candidate_section, _, candidate_name = candidate.rpartition(".")
        cost = _cost(name, candidate_name)
        if cost is None:
            continue
        cost += _section_cost(section, candidate_section)
        if candidate in SECTIONS and not is_mapping:
            cost += 0.1
        ranked.append((cost, candidate))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _section_cost(written: str, candidate: str) -> float:
    # An exact name elsewhere beats a misspelt name here; at equal spelling the key here wins.
    if written == candidate:
        return 0.0
    return 0.25 if written and candidate and _cost(written, candidate) is not None else 0.5


def _cost(word: str, choice: str) -> float | None:
    word, choice = word.casefold().replace("-", "_"), choice.casefold()
    if word == choice:
        return 0.0
    limit = max(1, len(choice) // 3)
    # Every other letter is one edit away from a name of one letter: that says nothing.
    if len(choice) < 2 or abs(len(word) - len(choice)) > limit:
        return None
    distance = _edit_distance(word, choice)
    return float(distance) if distance <= limit else None


def _edit_distance(first: str, second: str) -> int:
    """Count insertions, deletions, substitutions and swaps of neighbours (optimal string alignment)."""
    before: list[int] = []
    previous = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        current = [i]
        for j, b in enumerate(second, start=1):
            best = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            current.append(best)
        before, previous = previous, current
    return previous[-1]
