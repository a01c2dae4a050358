"""``medqa review export``: preference pairs from judgments, as TRL, Axolotl and LLaMA-Factory read them.

One JSON object a line with ``prompt``, ``chosen`` and ``rejected`` (TRL's standard preference format with an explicit
prompt), and ``rater`` and ``strength``, which trainers pass over. Prompt and answers are text of the prompt contract:
one behind the other they are what the adapter was trained on, without the tokens that a tokenizer or trainer adds at
the beginning and the end.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.evaluation.arms import ARMS
from medqa_cli.files import RunFolder, write_json_lines
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract
from medqa_cli.prompt.text import PromptText
from medqa_cli.review.figures import TIE, judged_pairs, preference
from medqa_cli.review.judgments import Judgment, find_key, read_judgments, read_key


def export_pairs(config: Config, paths: Sequence[Path], out: Path | None) -> dict[str, Any]:
    """Write the preference pairs of a run's review, for the owner only; return what was written and left out.

    Args:
        config: the run.
        paths: the raters' files.
        out: None: ``review/dpo.jsonl`` in the run's folder; of what readers reported, a file beside it.

    Raises:
        InputError: there is no review, no pair, or no prompt to write before the answers.
    """
    run = config.run
    path = find_key(paths, run.review_dir)
    key = read_key(path)
    if not key.prompt:
        raise InputError(
            f"{path} has no prompt: the review was made before an adapter was trained",
            "train one, then make the review again: medqa review make --force",
        )
    contract = PromptContract.of_json(key.prompt, path)
    adapters = run.adapter_dir / PROMPT_FILE_NAME
    if adapters.is_file() and PromptContract.load(run.adapter_dir) != contract:
        console.warn(f"{adapters} is another prompt than that of the review, which is written")
    if contract.text.sources and (not key.is_sample or any(name.endswith(ARMS) for name in key.models)):
        console.warn("the answers were written behind sources, which the prompts of these pairs do not have")
    judgments, problems = read_judgments(paths, key)
    for problem in problems:
        console.warn(problem)
    pairs, left_out = preference_pairs(judgments, key.samples, contract.text)
    if not pairs:
        hint = "judge more questions" if key.is_sample else "only reports that say what should stand there make a pair"
        raise InputError(f"no pair to export: {_reasons(left_out)}", hint)
    target = out or (run.preferences_path if key.is_sample else paths[0].with_suffix(".dpo.jsonl"))
    write_json_lines(target, pairs, private=True)
    return {"path": str(target), "pairs": len(pairs), "left_out": left_out}


def preference_pairs(
    judgments: Sequence[Judgment], answers: Mapping[str, Mapping[str, str]], text: PromptText
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return a pair for each question and pair of models of which raters prefer one, and none the other.

    Args:
        judgments: of all raters.
        answers: by question and model.
        text: how a question is asked.

    Returns:
        the pairs: in them ``rater``: names, comma-separated; ``strength``: the share of raters who prefer it, the
        others find both equal. And how many were left out, by reason: ``ties``: all raters judged both equal;
        ``disputed``: raters preferred different ones; ``not_judged``: nobody could judge; ``same_answer``: both texts
        are the same.
    """
    pairs: list[dict[str, Any]] = []
    left_out = dict.fromkeys(("ties", "disputed", "not_judged", "same_answer"), 0)
    for (first, second), of_models in judged_pairs(judgments).items():
        by_question: dict[str, list[Judgment]] = {}
        for judgment in of_models:
            by_question.setdefault(judgment.pair.question_id, []).append(judgment)
        for question, of_question in by_question.items():
            said = [(judgment, value) for judgment in of_question if (value := preference(judgment, first)) is not None]
            values = {value for _, value in said}
            one, other = answers[question][first], answers[question][second]
            if not values:
                left_out["not_judged"] += 1
            elif one == other:
                left_out["same_answer"] += 1
            elif {0.0, 1.0} <= values:
                left_out["disputed"] += 1
            elif values == {TIE}:
                left_out["ties"] += 1
            else:
                chosen, rejected = (one, other) if 1.0 in values else (other, one)
                deciding = [judgment.pair.rater for judgment, value in said if value != TIE]
                pairs.append(
                    {
                        "prompt": text.prompt(of_question[0].pair.question),
                        "chosen": text.answer_prefix + text.defuse(chosen),
                        "rejected": text.answer_prefix + text.defuse(rejected),
                        "rater": ",".join(deciding),
                        "strength": len(deciding) / len(said),
                    }
                )
    return pairs, left_out


def _reasons(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in left_out.items())


def show(exported: Mapping[str, Any], run: RunFolder) -> None:
    """Print what was written and left out."""
    console.line(f"wrote {exported['path']}: {exported['pairs']} pairs; left out: {_reasons(exported['left_out'])}")
    pairs = "" if exported["path"] == str(run.preferences_path) else f" --pairs {shlex.quote(exported['path'])}"
    console.line(f"it holds questions and answers; train on it with: medqa train --method dpo{pairs}")
