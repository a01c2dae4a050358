"""What is looked for in a tuned model, looked for, and counted: the section ``memorization`` of ``results.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import QaRow, read_split
from medqa_cli.evaluation.bootstrap import ClusterBootstrap, as_json, better_of, ratio_of_sums
from medqa_cli.evaluation.memorization.rates import share
from medqa_cli.evaluation.memorization.section import HELD_OUT, TRAIN, verbatim_sentences
from medqa_cli.evaluation.memorization.verbatim import (
    BEGINNING,
    TOKENS,
    Recited,
    Texts,
    figures,
    pick_texts,
    recite,
)
from medqa_cli.evaluation.metrics import in_group
from medqa_cli.evaluation.samples import topic_keys
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel
from medqa_cli.prompt.encoder import PromptEncoder

ByModel = dict[str, dict[str, list[Recited]]]


@dataclass
class Search:
    """What is looked for, and what was found so far: by model and set of texts."""

    texts: Mapping[str, Texts]
    recited: ByModel = field(default_factory=dict)

    def fingerprint(self) -> Any:
        """Return what the pieces of work depend on."""
        return {name: [example.input_ids for example in texts.examples] for name, texts in self.texts.items()}

    def in_packed(self, loaded: LoadedModel, journal: SharedJournal) -> None:
        """Look for answers that a packed model gives back."""
        self.recited[loaded.name] = {
            name: recite(loaded, name, texts.examples, journal) for name, texts in self.texts.items()
        }

    def results(self, pairs: Iterable[tuple[str, str]], config: Config) -> dict[str, Any]:
        """Return the section ``memorization`` of ``results.json``.

        Args:
            pairs: of models to compare.
            config: seed and draws.
        """
        wanted = config.eval.metric_names
        found: dict[str, Any] = {"figures": {model: {} for model in self.recited}, "differences": {}, "sentences": []}
        if "memorized_rate" in wanted and self.texts:
            found |= {"tokens": TOKENS, "beginning": BEGINNING}
            found["too_short"] = {name: texts.num_too_short for name, texts in self.texts.items()}
            found["verbatim"] = {
                model: {name: figures(recited) for name, recited in of_model.items()}
                for model, of_model in self.recited.items()
            }
            self._add_rates(found, pairs, config)
            found["sentences"] += verbatim_sentences(found)
        return found

    def _add_rates(self, found: dict[str, Any], pairs: Iterable[tuple[str, str]], config: Config) -> None:
        rows = self.texts[TRAIN].rows
        if not rows:
            return
        bootstrap = ClusterBootstrap(topic_keys(rows), config.eval.bootstrap_draws, config.seed)
        rates = {}
        for model, of_model in self.recited.items():
            hits = [one.is_memorized for one in of_model[TRAIN]]
            found["figures"][model]["memorized_rate"] = share(sum(hits), len(hits))
            rates[model] = bootstrap.figure(np.array([[hit, 1.0] for hit in hits]), ratio_of_sums)
        for first, second in pairs:
            difference = rates[first] - rates[second]
            better = better_of(difference.estimate(), lower_is_better=True) if bootstrap.num_clusters > 1 else None
            found["differences"].setdefault(f"{first}-{second}", {})["memorized_rate"] = {
                **as_json(difference.estimate()),
                "better": better,
                "detectable": difference.detectable(),
            }


def prepare(config: Config, encoder: PromptEncoder, held_out: Sequence[QaRow], limit: int | None) -> Search | None:
    """Return what is looked for in the models of a run; None if ``eval.metrics`` wants nothing of it.

    Args:
        config: the run, its data, the metrics and the number of rows.
        encoder: of the run's adapter.
        held_out: rows of the split that is evaluated.
        limit: of ``medqa eval``; None: none.

    Raises:
        InputError: a file of the data folder is missing or damaged.
    """
    if not {*config.eval.metric_names} & {*in_group("memorization")}:
        return None
    data_dir = Path(config.data.dir)
    texts: dict[str, Texts] = {}
    if "memorized_rate" in config.eval.metric_names:
        count = min(config.eval.memorization_rows, limit or config.eval.memorization_rows)
        control = held_out if config.eval.split != "train" else read_split(data_dir, "test")
        splits = {TRAIN: read_split(data_dir, "train"), HELD_OUT: control}
        texts = {
            name: pick_texts(rows, encoder, count, config.model.max_length) for name, rows in splits.items() if rows
        }
    return Search(texts)
