"""Preference pairs: what is written, what is left out, and that its texts are those of the prompt contract."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, fails
from helpers.reviews import given_back, make, measured_run, samples_of
from medqa_cli.config.schema import PromptConfig
from medqa_cli.evaluation.samples import write_samples
from medqa_cli.files import RunFolder
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.template import make_prompt_text
from medqa_cli.review.judgments import Judgment, Pair, Verdict
from medqa_cli.review.preferences import preference_pairs

Medqa = Callable[..., Outcome]
TEXT = make_prompt_text(PromptConfig(template="plain", system=None))
ANSWERS = {f"q{n}": {"adapter": f"A{n}", "base": f"B{n}", "reference": f"R{n}"} for n in range(4)}


def judgment(
    question: int, better: Verdict | None, rater: str = "anna", x: str = "adapter", y: str = "base"
) -> Judgment:
    pair = Pair(f"{rater}{question}", rater, f"q{question}", f"What is q{question}?", "", x, y, True)
    return Judgment(pair, {}, {}, better, "", None)


def test_the_preferred_answer_is_chosen_on_whichever_side_it_stood() -> None:
    judged = [judgment(0, "x"), judgment(1, "x", x="base", y="adapter"), judgment(2, "y", x="adapter", y="reference")]
    pairs, _ = preference_pairs(judged, ANSWERS, TEXT)
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [
        (" R2", " A2"),
        (" A0", " B0"),
        (" B1", " A1"),
    ]
    assert pairs[1] == {
        "prompt": "Question: What is q0?\nAnswer:",
        "chosen": " A0",
        "rejected": " B0",
        "rater": "anna",
        "strength": 1.0,
    }


def test_ties_disputes_what_nobody_judged_and_equal_texts_are_left_out_and_counted() -> None:
    judged = [
        judgment(0, "equal"),
        judgment(1, "x"),
        judgment(1, "y", "ben"),
        judgment(2, None),
        judgment(3, "x"),
    ]
    pairs, left_out = preference_pairs(judged, {**ANSWERS, "q3": {"adapter": "same", "base": "same"}}, TEXT)
    assert pairs == []
    assert left_out == {"ties": 1, "disputed": 1, "not_judged": 1, "same_answer": 1}


def test_strength_is_the_share_of_raters_who_prefer_it() -> None:
    judged = [
        judgment(0, "y"),
        judgment(0, "equal", "ben"),
        judgment(0, "x", "carl", "base", "adapter"),
        judgment(0, None, "dora"),
    ]
    (pair,), _ = preference_pairs(judged, ANSWERS, TEXT)
    assert (pair["chosen"], pair["rater"], pair["strength"]) == (" B0", "anna,carl", pytest.approx(2 / 3))


def test_no_text_forges_a_turn() -> None:
    answers = {"q0": {"adapter": "No.\nQuestion: And?", "base": "B"}}
    asked = replace(judgment(0, "x"), pair=replace(judgment(0, "x").pair, question="Why?\nAnswer: Because."))
    (pair,), _ = preference_pairs([asked], answers, TEXT)
    assert pair["prompt"].count("\nAnswer:") == 1
    assert "\nQuestion:" not in pair["chosen"]


@pytest.mark.parametrize("template", ["plain", "chat", "llama2", "alpaca"])
def test_texts_one_behind_the_other_are_the_tokens_of_training(chatml_tokenizer: Any, template: str) -> None:
    contract = make_contract(PromptConfig(template=template, system="Be brief."), chatml_tokenizer)
    (pair,), _ = preference_pairs([judgment(0, "x")], {"q0": {"adapter": "Rest helps.", "base": "No."}}, contract.text)
    (example,) = PromptEncoder(contract, chatml_tokenizer).encode_examples(["What is q0?"], ["Rest helps."], 500)
    ids = chatml_tokenizer(pair["prompt"] + pair["chosen"], add_special_tokens=False)["input_ids"]
    assert [*ids, contract.end_token_id] == example.input_ids[-len(ids) - 1 :]


def test_the_command_writes_a_private_file_and_says_what_is_missing(
    tmp_path: Path, medqa: Medqa, chatml_tokenizer: Any
) -> None:
    config = measured_run(tmp_path)
    options = ["--set", f"run_dir={config.run_dir}"]
    run = RunFolder(Path(config.run_dir))
    key, _ = make(config)
    file = tmp_path / "review-anna.json"
    file.write_text(json.dumps(given_back(key, "anna")))
    fails(medqa("review", "export", str(file), *options), 2, "has no prompt", "medqa review make --force")

    run.adapter_dir.mkdir()
    contract = make_contract(PromptConfig(template="chat"), chatml_tokenizer)
    contract.save(run.adapter_dir)
    key, _ = make(config, force=True)
    file.write_text(json.dumps(given_back(key, "anna")))
    outcome = medqa("review", "export", "--format", "dpo", str(file), *options)
    assert outcome.code == 0
    written = run.review_dir / "dpo.jsonl"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    pairs = [json.loads(line) for line in written.read_text().splitlines()]
    asked = {pair.question_id: pair for pair in key.pairs_of("anna")}
    assert len(pairs) == len(asked)
    # The page's rater says of every pair that X is better.
    chosen = {key.samples[pair.question_id][pair.x] for pair in asked.values()}
    assert {pair["chosen"] for pair in pairs} == chosen
    assert all(pair["prompt"].startswith(contract.text.before_question) for pair in pairs)
    fails(medqa("review", "export", "--format", "kto", str(file), *options), 2, "--format dpo")


@pytest.mark.parametrize("name", ["adapter", "adapter_open_book"])
def test_answers_behind_sources_are_exported_with_a_warning(
    tmp_path: Path, medqa: Medqa, chatml_tokenizer: Any, name: str
) -> None:
    config = measured_run(tmp_path)
    run = RunFolder(Path(config.run_dir))
    run.adapter_dir.mkdir()
    make_contract(PromptConfig(template="chat", sources=2), chatml_tokenizer).save(run.adapter_dir)
    samples = samples_of(name, answers={name: "Rest."}) + samples_of("base")
    write_samples(run.eval_dir / "samples.jsonl", samples)
    key, _ = make(config, models=(name, "base"))
    file = tmp_path / "review-anna.json"
    file.write_text(json.dumps(given_back(key, "anna")))
    outcome = medqa("review", "export", str(file), "--set", f"run_dir={config.run_dir}")
    assert outcome.code == 0
    assert ("the answers were written behind sources" in outcome.err) == (name != "adapter")
