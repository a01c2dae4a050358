"""The gate: a grammar and nothing else, errors before the work, failures with their values."""

from dataclasses import replace
from typing import Any

import pytest

from medqa_cli.config.schema import Config, EvalConfig, GenerateConfig, MultipleChoiceSet, PromptConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation.gate import check_gate, parse_conditions, require_measured


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 1, value + 1]}


CONFIG = Config(eval=EvalConfig(metrics=("nll", "chrf"), multiple_choice=(MultipleChoiceSet("pubmedqa", "x.json"),)))
RESULTS = {
    "models": {"adapter": {"nll": figure(2.0), "rougeL_stripped": figure(0.2)}, "base": {"nll": figure(3.0)}},
    "floors": {"wrong_topic": {"rougeL_stripped": figure(0.25)}},
    "differences": {"adapter-base": {"nll": figure(-1.0)}},
    "multiple_choice": {"pubmedqa": {"models": {"base": {"accuracy": figure(0.5)}}, "floors": {}, "differences": {}}},
}


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("adapter.nll > base.nll", False),
        ("adapter.nll<base.nll", True),
        ("adapter.nll >= 2", True),
        ("adapter.nll > 2", False),
        ("adapter.nll <= 2.0e0", True),
        ("adapter.nll < 2", False),
        ("adapter-base.nll > -0.5", False),
        ("adapter-base.nll > -1.5", True),
        ("adapter.rougeL_stripped < wrong_topic.rougeL_stripped", True),
        ("base.pubmedqa.accuracy < .552", True),
    ],
)
def test_a_condition_that_holds_fails_the_gate_by_name(text: str, fails: bool) -> None:
    conditions = parse_conditions([text])
    if not fails:
        check_gate(conditions, RESULTS)
        return
    with pytest.raises(MedqaError) as caught:
        check_gate(conditions, RESULTS)
    assert caught.value.exit_code == 1
    assert text in caught.value.message


def test_all_failures_are_named_with_their_values() -> None:
    conditions = parse_conditions(["adapter.nll < base.nll", "adapter.nll > 9", "base.nll > 2.5"])
    with pytest.raises(MedqaError) as caught:
        check_gate(conditions, RESULTS)
    assert caught.value.message.splitlines() == [
        "--fail-on adapter.nll < base.nll: adapter.nll is 2, base.nll is 3",
        "--fail-on base.nll > 2.5: base.nll is 3",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adapter.nll", "is not a condition"),
        ("adapter.nll == 2", "is not a condition"),
        ("adapter.nll > base.nll > 2", "is not a condition"),
        ("2 > adapter.nll", "'2' is neither a figure"),
        ("adapter.nll > __import__('os')", "neither a figure nor a number"),
        ("adapter.nll > 2+2", "neither a figure nor a number"),
        ("adapter.rougel > 2", "did you mean 'rougeL'?"),
        ("adapter > 2", "neither a figure nor a number"),
        ("", "is not a condition"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace("?", r"\?")):
        parse_conditions([text])


@pytest.mark.parametrize("text", ["adapter.nll > 2", "base.nll < adapter.nll"])
def test_a_figure_that_is_no_number_does_not_pass(text: str) -> None:
    broken = {**RESULTS, "models": {**RESULTS["models"], "adapter": {"nll": {"value": float("nan")}}}}
    with pytest.raises(MedqaError, match=r"adapter\.nll"):
        check_gate(parse_conditions([text]), broken)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adapter.loop_rate > 0.02", "eval.metrics leaves out loop_rate"),
        ("adapter.nll > base.rougeL_stripped", "eval.metrics leaves out rougeL"),
        ("adapter.other.accuracy < 0.5", "no multiple-choice file other"),
        ("adapter.accuracy < 0.5", "adapter.accuracy is of a multiple-choice file"),
        ("adapter.pubmedqa.rougeL < 0.5", r"adapter\.pubmedqa\.rougeL is not measured on multiple-choice files"),
        ("adaptr.nll > 2", r"adaptr\.nll will not be measured; did you mean 'adapter'\?"),
        ("merged.nll > 2", r"merged\.nll will not be measured"),
        ("base-adapter.nll > 2", r"base-adapter\.nll will not be measured"),
        ("random_answer.pubmedqa.accuracy > 2", r"random_answer\.pubmedqa\.accuracy will not be measured"),
        ("majority.nll > 2", r"majority\.nll will not be measured"),
        ("adapter.nll > random_answer.nll", r"random_answer\.nll will not be measured"),
        ("served.nll > 2", r"served\.nll will not be measured"),
        ("unigram.chrf > 2", r"unigram\.chrf will not be measured"),
    ],
)
def test_what_will_not_be_measured_is_said_before_anything_is(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        require_measured(parse_conditions([text]), CONFIG, ("adapter", "base"))


@pytest.mark.parametrize(
    "text",
    [
        "adapter-base.nll > 0",
        "adapter.nll > unigram.nll",
        "adapter.chrf_stripped < random_answer.chrf",
        "base.pubmedqa.accuracy < 0.5",
        "served.chrf < cut_reference.chrf",
        "base.pubmedqa.accuracy < majority.pubmedqa.accuracy",
    ],
)
def test_what_will_be_measured_is_let_pass(text: str) -> None:
    models = ("adapter", "base", "openai:http://127.0.0.1:1/v1")
    require_measured(parse_conditions([text]), CONFIG, models)


@pytest.mark.parametrize(
    ("text", "is_measured"),
    [
        ("adapter_open_book.citation_precision < 0.9", True),
        ("adapter_absent.decline_rate < 0.5", True),
        ("adapter_open_book.citation_recall < 0.9", True),
        ("adapter_absent.citation_recall < 0.9", False),
        ("adapter.citation_precision < 0.9", False),
        ("first_passage.supported_share < 0.9", False),
        ("adapter_open_book-adapter.decline_rate > 0", False),
    ],
)
def test_metrics_of_sources_are_those_of_answers_with_sources(text: str, is_measured: bool) -> None:
    config = replace(CONFIG, prompt=PromptConfig(sources=2), eval=EvalConfig())
    if is_measured:
        require_measured(parse_conditions([text]), config, ("adapter",))
        return
    with pytest.raises(InputError, match="will not be measured") as caught:
        require_measured(parse_conditions([text]), config, ("adapter",))
    assert "adapter_open_book" in str(caught.value.hint)


def test_a_precision_without_a_citation_is_undefined_and_does_not_pass() -> None:
    results = {**RESULTS, "models": {"adapter_open_book": {}}, "settings": {"metrics": ["citation_precision"]}}
    with pytest.raises(MedqaError, match=r"citation_precision is undefined") as caught:
        check_gate(parse_conditions(["adapter_open_book.citation_precision < 0.9"]), results)
    assert caught.value.exit_code == 1


def test_plain_greedy_answers_are_measured_where_answers_may_leave_loops() -> None:
    conditions = parse_conditions(["adapter_greedy.chrf > 20", "adapter-adapter_greedy.chrf < 0"])
    with pytest.raises(InputError, match=r"adapter_greedy\.chrf will not be measured; did you mean 'adapter'\?"):
        require_measured(conditions, replace(CONFIG, generate=GenerateConfig(loop_retries=0)), ("adapter",))
    require_measured(conditions, CONFIG, ("adapter",))


@pytest.mark.parametrize("text", ["merged.nll > 2", "base.chrf > 2", "adapter.medqa.accuracy > 2", "2x.nll > 2"])
def test_what_was_not_measured_is_an_error_and_not_a_pass(text: str) -> None:
    with pytest.raises(InputError) as caught:
        check_gate(parse_conditions([text]), RESULTS)
    assert caught.value.exit_code == 2
