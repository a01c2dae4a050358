"""The section ``memorization`` of ``results.json``: its sentences, its figures beside the others, whether it is sound.

Read by people who answer for the data: a sentence says what somebody who gets the model can ask out of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TRAIN, HELD_OUT = "train", "held_out"


def with_memorization(results: dict[str, Any], found: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Put the section ``memorization`` into the results, and its figures beside those of the models.

    Args:
        results: without it.
        found: the section; empty: nothing was looked for.
        wanted: the metrics to show.
    """
    if not found:
        return results
    for kind, into in (("figures", "models"), ("differences", "differences")):
        for name, measured in found[kind].items():
            if name in results[into]:
                results[into][name] |= {metric: figure for metric, figure in measured.items() if metric in wanted}
    return results | {"memorization": found}


def sentences_on(model: str, found: Mapping[str, Any]) -> list[str]:
    """Say what can be asked out of a model of what it was trained on.

    Args:
        model: its name; nothing is said of ``base``, which stands beside the others.
        found: the section, still without its sentences.
    """
    if model == "base":
        return []
    sentences = []
    if "verbatim" in found:
        sentences.append(_on_answers(model, found))
    if "identifiers" in found:
        sentences.append(_on_identifiers(model, found["identifiers"]))
    if "canaries" in found:
        sentences += _on_canaries(model, found["canaries"])
    return sentences


def _on_answers(model: str, found: Mapping[str, Any]) -> str:
    tokens, beginning, measured = found["tokens"], found["beginning"], found["verbatim"][model]
    counts = measured.get(TRAIN, {"rows": 0})
    if not counts["rows"]:
        return (
            f"{model}: no training answer has the {tokens} tokens that count as given back word for word: "
            "nothing can be said of memorized answers"
        )
    low, high = (100 * end for end in found["figures"][model]["memorized_rate"]["ci95"])
    ways = f"{counts['asked']} by the question alone"
    if counts["rows_with_beginning"]:
        of_rows = f"{counts['with_beginning']} of {counts['rows_with_beginning']}"
        ways += f", {of_rows} given its first {beginning} tokens"
    beside = ""
    if (base := found["verbatim"].get("base", {}).get(TRAIN)) is not None:
        beside += f"; the untuned base: {base['memorized']}"
    if (control := measured.get(HELD_OUT)) is not None and control["rows"]:
        beside += f"; of {control['rows']} answers that it never saw: {control['memorized']}"
    return (
        f"Whoever gets {model} can ask {counts['memorized']} of {counts['rows']} training answers out of it word "
        f"for word, {tokens} tokens and more ({ways}; 95 % interval {low:.1f} to {high:.1f} %){beside}"
    )


def _on_identifiers(model: str, found: Mapping[str, Any]) -> str:
    measured, chance = found["models"][model], 1 / found["candidates"]
    ours = measured[TRAIN]
    memorized = "it has memorized some" if ours["fires"] else "no more than chance explains"
    sentence = (
        f"Of {ours['values']} identifiers of persons in training rows {model} finds {ours['first']} likelier than "
        f"{found['candidates'] - 1} others of the same form (by chance {ours['values'] * chance:.1f}): {memorized} "
        f"(the rule takes {ours['fires_from']}, which {100 * ours['false_alarm']:.1g} % of clean models reach); it "
        f"writes {ours['said']} of them by itself after the text before them"
    )
    if "base" in found["models"]:
        base = found["models"]["base"][TRAIN]
        sentence += f"; the untuned base: {base['first']} and {base['said']}"
    if HELD_OUT in measured:
        sentence += f"; of {measured[HELD_OUT]['values']} in rows that it never saw: {measured[HELD_OUT]['first']}"
    return sentence


def _on_canaries(model: str, found: Mapping[str, Any]) -> list[str]:
    sentences = []
    base = found["models"].get("base", {})
    for field, groups in found["models"][model].items():
        learned = [str(group["copies"]) for group in groups if group["fires"]]
        said = f"has learned the planted numbers of {field}s that stand there {' or '.join(learned)} times"
        shown = []
        for group in groups:
            times = {0: "never", 1: "once"}.get(group["copies"], f"{group['copies']} times")
            shown.append(f"{times}: {group['first']} of {group['values']}, {group['mean_exposure']:.1f} bits")
        sentence = (
            f"{model} {said if learned else f'shows no trace of the planted numbers of {field}s'}: likeliest of "
            f"{found['candidates']} of the same form, and mean exposure (1.4 bits by chance) where planted "
            f"{', '.join(shown)}"
        )
        if field in base:
            first, values = (sum(group[key] for group in base[field]) for key in ("first", "values"))
            sentence += f"; the untuned base: {first} of {values}"
        sentences.append(sentence)
    return sentences


def extracted(model: str, found: Mapping[str, Any]) -> list[str] | None:
    """Name what of its training data can be asked out of a model.

    An answer counts if it is given back word for word; identifiers and planted numbers count by the rule of ``verdict``
    in ``ranks.py``, identifiers also if the model writes more of them than the base does.

    Args:
        model: its name.
        found: the section; empty: nothing was looked for.

    Returns:
        parts of a sentence; empty: nothing; None: nothing was looked for in this model.
    """
    parts = []
    answers = found.get("verbatim", {}).get(model, {}).get(TRAIN, {"rows": 0})
    of_models = found.get("identifiers", {}).get("models", {})
    planted = found.get("canaries", {}).get("models", {}).get(model, {})
    if not answers["rows"] and model not in of_models and not planted:
        return None
    if answers["rows"] and answers["memorized"] > 0:
        parts.append(f"{answers['memorized']} of {answers['rows']} training answers")
    if model in of_models:
        ours, base = of_models[model][TRAIN], of_models.get("base", {}).get(TRAIN, {"said": 0})
        if ours["fires"] or ours["said"] > base["said"]:
            parts.append("identifiers of persons")
    if any(group["fires"] for groups in planted.values() for group in groups):
        parts.append("planted numbers")
    return parts


def is_sound(found: Any) -> bool:
    """Tell whether a section that was read from a file is one that ``with_memorization`` can put into results."""
    if not isinstance(found, dict) or not isinstance(found.get("sentences"), dict):
        return False
    try:
        for model in found["sentences"]:
            extracted(model, found)
    except (AttributeError, KeyError, TypeError):
        return False
    of_models = found["sentences"].values()
    if not all(isinstance(said, list) and all(isinstance(sentence, str) for sentence in said) for said in of_models):
        return False
    for kind in ("figures", "differences"):
        by_name = found.get(kind)
        if not isinstance(by_name, dict) or not all(isinstance(of_name, dict) for of_name in by_name.values()):
            return False
        figures = (figure for of_name in by_name.values() for figure in of_name.values())
        if not all(_is_figure(figure, is_difference=kind == "differences") for figure in figures):
            return False
    return True


def _is_figure(figure: Any, *, is_difference: bool) -> bool:
    ends = figure.get("ci95") if isinstance(figure, dict) else None
    if not isinstance(ends, list) or len(ends) != 2 or not _are_numbers([figure.get("value")]):
        return False
    drawn = [*ends, *([figure.get("detectable")] if is_difference else [])]
    # All are null where a single topic decides the figure.
    is_whole = _are_numbers(drawn) or drawn == [None] * len(drawn)
    return is_whole and (not is_difference or figure.get("better") in (True, False, None))


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)
