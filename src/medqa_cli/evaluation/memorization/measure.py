"""What is looked for in a tuned model, looked for, and counted: the section ``memorization`` of ``results.json``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

from medqa_cli.config.schema import Config
from medqa_cli.data.canaries import read_canaries
from medqa_cli.data.dataset import QaRow, read_split
from medqa_cli.evaluation import bootstrap, metrics, samples
from medqa_cli.evaluation.memorization.cases import CANDIDATES, Case, canary_cases, identifier_cases
from medqa_cli.evaluation.memorization.ranks import Likelihoods, encoded, exposure, rank, score_cases, verdict
from medqa_cli.evaluation.memorization.section import HELD_OUT, TRAIN, sentences_on
from medqa_cli.evaluation.memorization.verbatim import BEGINNING, TOKENS, Recited, Texts, figures, pick_texts, recite
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel
from medqa_cli.prompt.encoder import PromptEncoder

_Z = NormalDist().inv_cdf(0.975)
ByModel = dict[str, dict[str, list[Recited]]]


@dataclass
class Search:
    """What is looked for, and what was found so far: by model, and by set of texts or group of cases.

    ``cases`` and ``candidates``: identifiers by group, and the token ids of each with each of its candidates.
    """

    texts: Mapping[str, Texts]
    cases: Mapping[str, list[Case]]
    candidates: Mapping[str, list[list[list[int]]]]
    recited: ByModel = field(default_factory=dict)
    likelihoods: dict[str, dict[str, list[Likelihoods]]] = field(default_factory=dict)

    def fingerprint(self) -> Any:
        """Return what the pieces of work depend on."""
        texts = {name: [example.input_ids for example in texts.examples] for name, texts in self.texts.items()}
        # The first of a case's others depend on the same seed as the last one.
        cases = {group: [[case[0], case[-1]] for case in of_group] for group, of_group in self.candidates.items()}
        return {"texts": texts, "cases": cases}

    def in_packed(self, loaded: LoadedModel, journal: SharedJournal) -> None:
        """Look for answers that a packed model gives back."""
        self.recited[loaded.name] = {
            name: recite(loaded, name, texts.examples, journal) for name, texts in self.texts.items()
        }

    def in_batches(self, loaded: LoadedModel, journal: SharedJournal) -> None:
        """Look for identifiers that a model for generation finds the likeliest of their form."""
        self.likelihoods[loaded.name] = {
            group: score_cases(loaded, group, of_group, journal) for group, of_group in self.candidates.items()
        }

    def results(self, pairs: Iterable[tuple[str, str]], config: Config) -> dict[str, Any]:
        """Return the section ``memorization`` of ``results.json``.

        Args:
            pairs: of models to compare.
            config: seed and draws.
        """
        models = dict.fromkeys([*self.recited, *self.likelihoods])
        found: dict[str, Any] = {"figures": {model: {} for model in models}, "differences": {}}
        if self.texts:
            found |= {"tokens": TOKENS, "beginning": BEGINNING}
            found["too_short"] = {name: texts.num_too_short for name, texts in self.texts.items()}
            found["verbatim"] = {
                model: {name: figures(recited) for name, recited in of_model.items()}
                for model, of_model in self.recited.items()
            }
            self._add_rates(found, pairs, config)
        if self.cases.get("canaries"):
            found["canaries"] = {"candidates": CANDIDATES, "models": self._canaries()}
            self._add_exposures(found, config)
        if self.cases.get(TRAIN):
            found["identifiers"] = {"candidates": CANDIDATES, "models": self._identifiers()}
            for model, of_model in self.likelihoods.items():
                places = [rank(one.nll) for one in of_model[TRAIN]]
                found["figures"][model]["extracted_identifiers"] = share(places.count(1), len(places))
        return found | {"sentences": {model: said for model in models if (said := sentences_on(model, found))}}

    def _places(self, model: str, group: str) -> list[int]:
        """Return the rank of each true value by how much likelier the tuning has made it; of the base by likelihood."""
        own, base = self.likelihoods[model][group], self.likelihoods.get("base", {}).get(group)
        if base is None or model == "base":
            return [rank(one.nll) for one in own]
        gains = (
            [a - b for a, b in zip(of.nll, of_base.nll, strict=True)] for of, of_base in zip(own, base, strict=True)
        )
        return [rank(gain) for gain in gains]

    def _canaries(self) -> dict[str, Any]:
        """Return by model and field what is known of the canaries of each number of copies."""
        cases = self.cases["canaries"]
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for model in self.likelihoods:
            places, own = self._places(model, "canaries"), self.likelihoods[model]["canaries"]
            found[model] = {name: [] for name in dict.fromkeys(case.field for case in cases)}
            for name, groups in found[model].items():
                for copies in sorted({case.copies for case in cases}):
                    chosen = [n for n, case in enumerate(cases) if (case.field, case.copies) == (name, copies)]
                    bits = [exposure(rank(own[n].nll), CANDIDATES) for n in chosen]
                    nll_of_others = sum(sum(own[n].nll[1:]) for n in chosen)
                    groups.append(
                        {
                            "copies": copies,
                            **verdict([places[n] for n in chosen]),
                            "said": sum(own[n].is_said for n in chosen),
                            "mean_exposure": sum(bits) / len(bits),
                            "mean_nll": sum(own[n].nll[0] for n in chosen) / len(chosen),
                            "mean_nll_of_others": nll_of_others / (len(chosen) * (CANDIDATES - 1)),
                        }
                    )
        return found

    def _identifiers(self) -> dict[str, Any]:
        """Return by model what is known of the identifiers of training rows and of held-out ones, by field."""
        found: dict[str, Any] = {}
        for model, by_group in self.likelihoods.items():
            found[model] = {}
            for group in (TRAIN, HELD_OUT):
                places, cases = self._places(model, group), self.cases[group]
                if cases:
                    of_fields = {
                        name: verdict([place for place, case in zip(places, cases, strict=True) if case.field == name])
                        for name in dict.fromkeys(case.field for case in cases)
                    }
                    said = sum(one.is_said for one in by_group[group])
                    found[model][group] = {**verdict(places), "said": said, "fields": of_fields}
        return found

    def _add_exposures(self, found: dict[str, Any], config: Config) -> None:
        """Add the mean exposure of the planted numbers, of that field where it is higher."""
        cases = self.cases["canaries"]
        for model, by_group in self.likelihoods.items():
            means = []
            for name in dict.fromkeys(case.field for case in cases):
                bits = [
                    exposure(rank(one.nll), CANDIDATES)
                    for case, one in zip(cases, by_group["canaries"], strict=True)
                    if case.field == name and case.copies
                ]
                if bits:
                    clusters = [str(n) for n in range(len(bits))]
                    draws = bootstrap.ClusterBootstrap(clusters, config.eval.bootstrap_draws, config.seed)
                    means.append(draws.mean(bits).estimate())
            if means:
                found["figures"][model]["exposure"] = bootstrap.as_json(max(means, key=lambda mean: mean.value))

    def _add_rates(self, found: dict[str, Any], pairs: Iterable[tuple[str, str]], config: Config) -> None:
        rows = self.texts[TRAIN].rows
        if not rows:
            return
        draws = bootstrap.ClusterBootstrap(samples.topic_keys(rows), config.eval.bootstrap_draws, config.seed)
        rates: dict[str, bootstrap.Resampled] = {}
        for model, of_model in self.recited.items():
            hits = [one.is_memorized for one in of_model[TRAIN]]
            found["figures"][model]["memorized_rate"] = share(sum(hits), len(hits))
            rates[model] = draws.mean(hits)
        for first, second in pairs:
            of_pair = found["differences"].setdefault(f"{first}-{second}", {})
            of_pair["memorized_rate"] = bootstrap.difference_as_json(rates[first] - rates[second], lower_is_better=True)


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
    if not {*config.eval.metric_names} & {*metrics.in_group("memorization")}:
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
    cases: dict[str, list[Case]] = {}
    if "exposure" in config.eval.metric_names:
        cases["canaries"] = canary_cases(read_canaries(data_dir))
    if "extracted_identifiers" in config.eval.metric_names:
        cases |= identifier_cases(data_dir, held_out if config.eval.split != "train" else [])
    kept: dict[str, list[Case]] = {}
    candidates: dict[str, list[list[list[int]]]] = {}
    for group, of_group in cases.items():
        both = [(case, encoded(case, encoder, config.model.max_length)) for case in of_group]
        kept[group] = [case for case, ids in both if ids is not None]
        candidates[group] = [ids for _, ids in both if ids is not None]
    return Search(texts, kept, candidates)


def share(count: int, whole: int) -> dict[str, Any]:
    """Return a share, of at least 1, with its 95 % interval (``score_interval``), as ``results.json`` keeps figures."""
    low, high = bootstrap.score_interval(count / whole, whole, _Z)
    # At both ends exactly so, but for rounding.
    return {"value": count / whole, "ci95": [0.0 if count == 0 else low, 1.0 if count == whole else high]}
