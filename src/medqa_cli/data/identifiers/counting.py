"""How many finds there are of each kind, in how many rows: what report.json, the card and the table say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from medqa_cli.data.identifiers.finds import KINDS, LANGUAGES, PlainFind

_TRAIN = "train"


@dataclass
class FoundCounts:
    """Finds and rows by kind, of all rows looked through and of those of train; never a value."""

    finds: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    train_finds: Counter[str] = field(default_factory=Counter)
    train_rows: Counter[str] = field(default_factory=Counter)
    rows_with_any: int = 0
    train_rows_with_any: int = 0

    def add(self, finds: Iterable[PlainFind], split: str) -> None:
        """Count the finds of one row; ``split`` is empty where it is rejected for them."""
        kinds = Counter(kind for _, _, _, kind in finds)
        self.finds.update(kinds)
        self.rows.update(kinds.keys())
        self.rows_with_any += 1
        if split == _TRAIN:
            self.train_finds.update(kinds)
            self.train_rows.update(kinds.keys())
            self.train_rows_with_any += 1

    def as_json(self, setting: str) -> dict[str, Any]:
        """Return the part of ``report.json``; ``setting``: what became of the finds."""
        return {
            "setting": setting,
            "languages": [*LANGUAGES],
            "rows": self.rows_with_any,
            "train_rows": self.train_rows_with_any,
            "kinds": {
                kind: {
                    "finds": self.finds[kind],
                    "rows": self.rows[kind],
                    "train_finds": self.train_finds[kind],
                    "train_rows": self.train_rows[kind],
                }
                for kind in KINDS
                if self.finds[kind]
            },
        }
