"""Is the tuned model better than its base, and than trivial answerers? Said in sentences, by stated rules.

docs/evaluation.md ("The five lines") has the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medqa_cli.evaluation.arms import ARMS, BM25_PASSAGE, FIRST_PASSAGE, OPEN_BOOK
from medqa_cli.evaluation.baselines import TRIVIAL
from medqa_cli.evaluation.metrics import metric
from medqa_cli.evaluation.samples import GREEDY
from medqa_cli.spelling import with_noun

# What decides was fixed before anything was measured: of each group the first figure that is not 0 for all models
# (ROUGE reads only ASCII letters and digits).
_LIKELIHOOD = ("nll", "bits_per_byte")
_OVERLAP = ("rougeL", "chrf", "bleu", "rouge1", "rouge2")
_DECIDING = {
    _LIKELIHOOD: "likelihood of the reference answers (loss {own} against {other}, lower is better)",
    _OVERLAP: "likeness to the reference answers ({title} {own} against {other})",
    ("topic_coverage",): "use of the topic's words ({own} against {other})",
}
_BASELINES = {
    "unigram": "word frequencies",
    "random_answer": "a random training answer",
    "nearest_question": "a copy of the answer to the most similar training question",
    "wrong_topic": "a training answer about another topic",
    FIRST_PASSAGE: "a copy of the first source",
    BM25_PASSAGE: "a copy of the first source of a plain text search",
}
_COPIES = {"against_copy": FIRST_PASSAGE, "against_bm25": BM25_PASSAGE}
LIKELIHOOD_IN_WORDS = (
    "Likelihood is how strongly a model expects the reference answers, token by token, before it writes anything; "
    "a lower loss is better, and it does not tell what the model would write itself"
)
FEW_QUESTIONS, FEW_TOPICS = 100, 30
# What a comparison shows. likelier: better only in likelihood; partly: better than each baseline, not in each figure.
Outcome = Literal["better", "partly", "likelier", "mixed", "worse", "same", "unknown"]


@dataclass(frozen=True)
class Comparison:
    """What a comparison shows, and the sentences that say so."""

    shown: Outcome
    said: str


def tuned_model(results: Mapping[str, Any]) -> str | None:
    """Return the model that the lines are about: the first that was measured and is not the base."""
    return next((name for name in results["models"] if name != "base" and not name.endswith((GREEDY, *ARMS))), None)


def heading(results: Mapping[str, Any]) -> str:
    """Return what the five lines answer."""
    model = tuned_model(results)
    return f"Is the tuned model{'' if model is None else f' ({model})'} better, and can I use it?"


def why_not_held_out(results: Mapping[str, Any]) -> str:
    """Say why the questions are not held out; empty where no reason is known."""
    if results["split"] == "train":
        return "it was trained on these questions"
    counts = results.get("leakage") or {}
    shared = [f"{count:,} by {kind.replace('_', ' ')}" for kind, count in counts.items() if count]
    return f"rows of the {results['split']} split stand in another split too ({', '.join(shared)})" if shared else ""


def only_one(results: Mapping[str, Any]) -> str:
    """Say that the questions stand for a single topic, so that figures have no intervals; empty where they do not."""
    if results["settings"].get("clusters") != 1:
        return ""
    if results["questions"] == 1:
        return "only one question was asked"
    return f"all questions are {'about one topic' if results['topics'] else 'of one conversation'}"


def _deciding(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures that decide, each with its words."""
    of_models = results["models"].values()
    found = {}
    for names, words in _DECIDING.items():
        name = next((name for name in names if any(of.get(name, {}).get("value") for of in of_models)), None)
        if name is not None:
            found[name] = words
    return found


def _in_words(words: str, name: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return a figure in words with its values for two answerers."""
    values = (f"{of[name]['value']:.{metric(name).digits}f}" for of in (own, other))
    return words.format(title=metric(name).title, own=next(values), other=next(values))


def against_base(results: Mapping[str, Any], model: str | None, leak: str) -> Comparison:
    """Say whether the tuned model is better than its base."""
    if model is None:
        return Comparison("unknown", "Not known: no tuned model was measured.")
    own, base = results["models"][model], results["models"].get("base")
    if base is None:
        return Comparison("unknown", f"Not known: {model} was measured without its base.")
    figures = results["differences"].get(f"{model}-base", {})
    words = {name: text for name, text in _deciding(results).items() if name in figures}
    if leak:
        return Comparison("unknown", f"Not known: {leak}, so the figures look better than they are.")
    if not words:
        return Comparison("unknown", "Not known: neither likelihood nor likeness nor words of the topic were measured.")
    if single := only_one(results):
        said = f"Not known: {single}, so nothing can be concluded about others."
        return Comparison("unknown", f"{said} {_how_many(results)}")
    by_result: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for name, text in words.items():
        by_result[figures[name]["better"]].append(_in_words(text, name, own, base))
    better, worse, same = (joined(by_result[result]) for result in (True, False, None))
    tail = f"; no difference is seen in {same}" if same else ""
    of_answers = [figures[name]["better"] for name in words if name not in _LIKELIHOOD]
    shown: Outcome
    if worse and better:
        shown, said = "mixed", f"Not clearly: it is better in {better}, but worse in {worse}{tail}."
    elif worse:
        shown, said = "worse", f"No: it is worse in {worse}{tail}."
    elif not better:
        shown, said = "same", f"Not shown: no difference is seen in {same}."
    elif any(of_answers):
        shown, said = "better", f"Yes: it is better in {better}{tail}."
    else:
        shown, said = "likelier", f"Not shown: it is better only in {better}{tail}."
        alone = "Likelihood does not tell what it writes" if of_answers else "What it writes was not measured"
        said = f"{said} {alone}."
    return Comparison(shown, f"{said} {_how_many(results)}")


def _how_many(results: Mapping[str, Any]) -> str:
    # Where some questions have no topic, how many there are is not known.
    is_told = results["topics"] and results["topics"] == results["settings"].get("clusters", results["topics"])
    topics = f" about {with_noun(results['topics'], 'topic')}" if is_told else ""
    is_short = is_few(results) and not only_one(results)
    few = " These are few: only large differences show." if is_short else ""
    unknown = "" if results.get("leakage") else " Whether it was trained on some of them is not known."
    were = "was" if results["questions"] == 1 else "were"
    return f"{with_noun(results['questions'], 'question')}{topics} {were} asked.{few}{unknown}"


def is_few(results: Mapping[str, Any]) -> bool:
    """Tell whether so few questions were asked that only large differences show."""
    return results["questions"] < FEW_QUESTIONS or (results["topics"] or FEW_TOPICS) < FEW_TOPICS


def against_copies(results: Mapping[str, Any], model: str | None, leak: str) -> Comparison:
    """Say whether the tuned model is better than each trivial answerer, also with sources."""
    if model is None or leak or only_one(results):
        return Comparison("unknown", "Not known, for the reason above.")
    own, floors = results["models"][model], results["floors"]
    names = {name: words for name, words in _deciding(results).items() if name in own}
    if all(name in _LIKELIHOOD for name in names):
        return Comparison("unknown", "Not measured: no answers were written.")
    not_beaten = results["floors_not_beaten"].get(model, {})
    closed = {
        floor: {name: not_beaten.get(floor, {}).get(name, True) for name in names if name in floors[floor]}
        for floor in TRIVIAL
        if floor in floors and floor not in _COPIES.values()  # it was shown no source
    }
    shown, said = _beaten(results, model, closed)
    if model + OPEN_BOOK in results["models"]:
        opened = {
            copy: {name: of[name]["better"] for name in names if name in of}
            for key, copy in _COPIES.items()
            if (of := results.get(key, {}).get(model + OPEN_BOOK)) is not None
        }
        shown, with_sources = _beaten(results, model + OPEN_BOOK, opened)
        said = f"With sources: {with_sources} Without sources: {said}"
    return Comparison(shown, said[0].upper() + said[1:])


def _beaten(
    results: Mapping[str, Any], model: str, better: Mapping[str, Mapping[str, bool | None]]
) -> tuple[Outcome, str]:
    """Say which baselines a model beats; ``better``: by baseline and figure, None where no difference is shown."""
    own, floors, words = results["models"][model], results["floors"], _deciding(results)

    def those(result: bool | None) -> dict[str, list[str]]:
        found = {floor: [name for name, of in figures.items() if of is result] for floor, figures in better.items()}
        return {floor: names for floor, names in found.items() if names}

    if not any(better.values()):
        return "unknown", "not measured."
    # Baselines are told together where no difference is seen in the same figures.
    by_figures: dict[str, list[str]] = {}
    for floor, names in those(None).items():
        by_figures.setdefault(joined([words[name].partition(" (")[0] for name in names]), []).append(_BASELINES[floor])
    same = "; ".join(
        f"against {joined(found)}, no difference is seen in {figures}" for figures, found in by_figures.items()
    )
    if worse := those(False):
        told = [
            f"{_BASELINES[floor]} in {joined([_in_words(words[name], name, own, floors[floor]) for name in names])}"
            for floor, names in worse.items()
        ]
        return "worse", f"no, it is worse than {'; '.join(told)}.{f' A{same[1:]}.' if by_figures else ''}"
    beaten = joined([_BASELINES[floor] for floor, figures in better.items() if figures])
    if not by_figures:
        return "better", f"yes, it is better than {beaten}."
    if all(any(figures.values()) for figures in better.values() if figures):
        return "partly", f"partly, it is better than {beaten}, but {same}."
    return "same", f"not shown, {same}."


def joined(parts: Sequence[str]) -> str:
    """Join parts as a sentence does."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
