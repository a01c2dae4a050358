"""Figures of hand-made samples: values, floors, pairs, what is undefined, the power of the sample; and the page."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medqa_cli.config.schema import EvalConfig
from medqa_cli.data.dataset import QaRow
from medqa_cli.errors import InputError
from medqa_cli.evaluation.conclusion import conclude
from medqa_cli.evaluation.metrics import METRICS, metric
from medqa_cli.evaluation.page import make_page, marked
from medqa_cli.evaluation.report import baseline_sentences, power_sentences, show, verdict
from medqa_cli.evaluation.results import ChoiceResults, make_results
from medqa_cli.evaluation.samples import Sample, read_samples, swapped_references, write_samples

ALL = [name for name in METRICS if name not in ("accuracy", "macro_f1")]


def sample(number: int, model: str, answer: str | None, **changes: Any) -> Sample:
    values: dict[str, Any] = {
        "id": str(number),
        "topic": f"disease {number // 2}",
        "model": model,
        "question": f"What is disease {number // 2}, part {number % 2}?",
        "references": (f"Disease {number // 2} is a disease of the organ {number} and needs rest.",),
        "swap_reference": f"Disease {number // 2 + 1} is a disease of the organ {number + 2} and needs rest.",
        "answer": answer,
        "finish_reason": "stop" if number % 4 else "length",
    }
    return Sample(**values | changes)


def results_of(samples: dict[str, list[Sample]], metrics: list[str] = ALL, **measured: Any) -> dict[str, Any]:
    floors, choices = measured.get("floors", {}), measured.get("choices", {})
    config = EvalConfig(metrics=tuple(metrics), bootstrap_draws=400)  # type: ignore[arg-type]
    return make_results(samples, floors, choices, config, 1, {"max_length": 9})


def good(number: int) -> str:
    return f"Disease {number // 2} is a disease of the organ {number}."


PARROT = "This disease is a disease of the organ and needs rest."


def first_parts(name: str, samples: list[Sample]) -> list[float]:
    parts = metric(name).parts(samples)
    assert parts is not None
    return list(parts[0])


def test_each_figure_by_hand() -> None:
    samples = [
        sample(0, "adapter", good(0), nll_sum=6.0, answer_tokens=4, answer_bytes=10),
        sample(1, "adapter", "word " * 8, nll_sum=2.0, answer_tokens=4, answer_bytes=10),
        sample(2, "adapter", "What is disease 1, part 0? Rest.", nll_sum=0.0, answer_tokens=2, answer_bytes=5),
    ]
    found = results_of({"adapter": samples})["models"]["adapter"]
    value = {name: figure["value"] for name, figure in found.items()}
    assert value["nll"] == pytest.approx(8 / 10)
    assert value["bits_per_byte"] == pytest.approx(8 / math.log(2) / 25)
    assert value["topic_coverage"] == pytest.approx((1 + 0 + 1) / 3)
    assert value["seq_rep_4"] == pytest.approx((0 + 4 / 5 + 0) / 3)
    assert value["loop_rate"] == pytest.approx(0)
    assert value["finished_rate"] == pytest.approx(2 / 3)
    assert value["prompt_echo_rate"] == pytest.approx(1 / 3)
    assert value["length_ratio"] == pytest.approx((9 + 8 + 7) / (12 * 3))
    # Nine words, all in the reference of twelve in order.
    own, swapped = 2 * 9 / (9 + 12), 2 * 7 / (9 + 12)
    assert first_parts("rougeL", samples) == [pytest.approx(own), 1]
    assert first_parts("reference_swap_margin", samples) == [pytest.approx(own - swapped), 1]


def test_the_margin_of_a_parrot_is_nothing_and_that_of_a_good_answer_is_not() -> None:
    generator = np.random.default_rng(1)
    words = [f"w{number}" for number in range(400)]
    texts = [" ".join(["Treatment of it includes", *generator.choice(words, 12)]) for _ in range(80)]
    rows = [
        QaRow(str(n), f"How to treat disease {n // 2}?", text, f"disease {n // 2}", "a") for n, text in enumerate(texts)
    ]
    swapped = swapped_references(rows)

    def answers(model: str, says: Any) -> list[Sample]:
        return [
            Sample(row.id, row.topic, model, row.question, (row.answer,), swap, answer=says(row))
            for row, swap in zip(rows, swapped, strict=True)
        ]

    samples = {
        "adapter": answers("adapter", lambda row: row.answer[:80]),
        "base": answers("base", lambda row: rows[0].answer),
    }
    figures = results_of(samples, ["rougeL", "reference_swap_margin"])["models"]
    low, high = figures["base"]["reference_swap_margin"]["ci95"]
    assert low <= 0 <= high
    assert figures["base"]["reference_swap_margin"]["value"] == pytest.approx(0, abs=1e-12)
    assert figures["base"]["rougeL"]["ci95"][0] > 0.2
    assert figures["adapter"]["reference_swap_margin"]["ci95"][0] > 0.4


def test_differences_are_paired_and_say_which_is_better() -> None:
    samples = {
        "adapter": [sample(n, "adapter", good(n)) for n in range(20)],
        "base": [sample(n, "base", "Take this medicine of ours.") for n in range(20)],
        "merged": [sample(n, "merged", good(n)) for n in range(20)],
    }
    results = results_of(samples)
    assert list(results["differences"]) == ["merged-adapter", "merged-base", "adapter-base"]
    for name in ("rouge1", "bleu", "chrf", "topic_coverage", "reference_swap_margin", "rougeL_stripped"):
        own = results["differences"]["adapter-base"][name]
        models = results["models"]
        assert own["value"] == pytest.approx(models["adapter"][name]["value"] - models["base"][name]["value"])
        assert own["better"] is True, name
        assert results["differences"]["merged-adapter"][name] == {
            "value": 0.0, "ci95": [0.0, 0.0], "better": None, "detectable": 0.0
        }  # fmt: skip
    # Neither longer nor shorter is better by itself.
    assert results["differences"]["adapter-base"]["length_ratio"]["better"] is None
    assert results["questions"] == 20
    assert results["topics"] == 10
    assert (results["settings"]["num_without_swap_reference"], results["settings"]["clusters"]) == (0, 10)
    assert "nrefs:1" in results["settings"]["bleu"]
    json.dumps(results, allow_nan=False)


def test_references_stand_beside_as_floors() -> None:
    samples = {"adapter": [sample(n, "adapter", "Rest six words long it is.") for n in range(8)]}
    parrots = [sample(n, "wrong_topic", PARROT, finish_reason=None) for n in range(8)]
    floors = results_of(samples, floors={"wrong_topic": parrots})["floors"]
    assert list(floors) == ["wrong_topic", "cut_reference", "reference"]
    # The first 6 of 12 words.
    assert floors["cut_reference"]["rougeL"]["value"] == pytest.approx(2 * 6 / (6 + 12))
    assert floors["reference"].keys() == {"seq_rep_4", "loop_rate", "topic_coverage"}
    assert "finished_rate" not in floors["cut_reference"] | floors["wrong_topic"]


def test_a_floor_that_is_not_beaten_is_named() -> None:
    samples = {
        "adapter": [sample(n, "adapter", good(n)) for n in range(20)],
        "base": [sample(n, "base", "Take this medicine of ours.") for n in range(20)],
    }
    floors = {
        "wrong_topic": [sample(n, "wrong_topic", PARROT) for n in range(20)],
        # As the base: neither better nor worse. In words of the reference, but fewer than the adapter has.
        "random_answer": [sample(n, "random_answer", "Take this medicine of ours.") for n in range(20)],
        "nearest_question": [sample(n, "nearest_question", sample(n, "x", "").references[0]) for n in range(20)],
    }
    results = results_of(samples, ["rougeL", "topic_coverage", "finished_rate", "loop_rate"], floors=floors)
    assert results["floors_not_beaten"]["adapter"] == {
        "nearest_question": {"rougeL": False, "rougeL_stripped": False, "topic_coverage": None},
        # The template of this little data set is longer than what the adapter says.
        "wrong_topic": {"rougeL": False, "rougeL_stripped": False},
    }
    base = results["floors_not_beaten"]["base"]
    assert base["random_answer"] == {"rougeL": None, "rougeL_stripped": None, "topic_coverage": None}
    assert base["nearest_question"] == {"rougeL": False, "rougeL_stripped": False, "topic_coverage": False}
    sentences = baseline_sentences(results)
    assert sentences[0] == (
        "adapter is not shown to be better than the baseline nearest_question in ROUGE-L (worse), topic words covered"
    )
    assert [sentence.split()[0] for sentence in sentences] == ["adapter"] * 2 + ["base"] * 3
    assert results_of({"adapter": samples["adapter"]}, ["rougeL"])["floors_not_beaten"] == {"adapter": {}}


@pytest.mark.parametrize(
    ("name", "better", "ci95", "expected"),
    [
        ("rougeL", True, [0.1, 0.2], "better"),
        ("rougeL", False, [-0.2, -0.1], "worse"),
        ("rougeL", None, [-0.1, 0.2], "no difference shown"),
        # One topic alone: no interval.
        ("rougeL", None, [None, None], "not known"),
        ("length_ratio", None, [None, None], "not known"),
        ("length_ratio", None, [-0.1, 0.2], "no difference shown"),
        ("length_ratio", None, [-0.3, -0.2], "different"),
    ],
)
def test_what_a_difference_shows(name: str, better: bool | None, ci95: list[float | None], expected: str) -> None:
    assert verdict(name, {"value": 0.1, "better": better, "ci95": ci95}) == expected


def test_what_was_not_measured_is_absent() -> None:
    scored = [
        sample(n, "base", None, nll_sum=3.0, answer_tokens=2, answer_bytes=4, finish_reason=None) for n in range(4)
    ]
    results = results_of({"base": scored})
    assert results["models"]["base"].keys() == {"nll", "bits_per_byte"}
    assert results["floors"] == {}
    alone = results_of({"base": [sample(n, "base", good(n), swap_reference=None, topic="") for n in range(4)]})
    assert not {"reference_swap_margin", "topic_coverage", "nll"} & alone["models"]["base"].keys()
    assert alone["topics"] is None
    assert alone["settings"]["num_without_swap_reference"] == 4


def test_rows_of_topics_that_share_a_name_are_drawn_together() -> None:
    topics = ("Zeta disease (ZD)", "ZD", "gout", "gouts")
    results = results_of({"base": [sample(n, "base", good(n), topic=topic) for n, topic in enumerate(topics)]})
    assert (results["topics"], results["settings"]["clusters"]) == (2, 2)


def test_a_figure_that_one_topic_alone_decides_has_no_interval() -> None:
    topics = ("gout", "", "", "", "")
    answers = {"adapter": "gout " * 3, "base": "nothing " * 3}
    found = results_of(
        {
            name: [sample(n, name, answer, topic=topic) for n, topic in enumerate(topics)]
            for name, answer in answers.items()
        }
    )
    coverage = found["differences"]["adapter-base"]["topic_coverage"]
    assert coverage == {"value": 1.0, "ci95": [None, None], "better": None, "detectable": None}
    assert (found["topics"], found["settings"]["clusters"]) == (1, 5)
    assert found["differences"]["adapter-base"]["rougeL"]["ci95"] == [0.0, 0.0]  # of five clusters, all of them alike


def test_questions_about_one_topic_have_figures_but_no_intervals_and_show_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = {
        "adapter": [sample(n, "adapter", good(n), topic="flu") for n in range(10)],
        "base": [sample(n, "base", "Nothing alike.", topic="flu") for n in range(10)],
    }
    results = results_of(samples)
    figures = [
        figure
        for kind in ("models", "floors", "differences")
        for of_name in results[kind].values()
        for figure in of_name.values()
    ]
    assert {tuple(figure["ci95"]) for figure in figures} == {(None, None)}
    assert results["differences"]["adapter-base"]["rougeL"]["value"] > 0.3
    json.dumps(results, allow_nan=False)
    first, copies, _, _, last = conclude(results | {"leakage": {"topic": 0}})
    assert first.answer == (
        "Not known: all questions are about one topic, so nothing can be concluded about others. "
        "10 questions about 1 topic were asked."
    )
    assert copies.answer == "Not known, for the reason above."
    assert last.command == "medqa convert FILE"
    show(results, Path("results.json"), Path("report.html"))
    printed = " ".join(capsys.readouterr().out.split())
    page = make_page(results, samples)
    for text in (printed, page):
        assert "not known" in text
        assert "no difference shown" not in text
        assert "no 95 % intervals: all questions are about one topic" in text
        assert "1 topics" not in text
        assert not re.search(r"\d \[[-+\d]", text)
        assert "None" not in text
    assert "10 questions, 1 topic," in printed


def test_a_single_question_without_a_topic_is_called_that() -> None:
    both = {name: [sample(0, name, good(0), topic="")] for name in ("adapter", "base")}
    first = conclude(results_of(both) | {"leakage": {"topic": 0}})[0]
    assert first.answer == (
        "Not known: only one question was asked, so nothing can be concluded about others. 1 question was asked."
    )


def test_several_references_count() -> None:
    both = ("Nothing alike at all.", good(0))
    figures = results_of({"base": [sample(0, "base", good(0), references=both), sample(2, "base", good(2))]})
    rouge = figures["models"]["base"]["rougeL"]["value"]
    assert rouge == pytest.approx((1 + 2 * 9 / (9 + 12)) / 2)
    assert figures["settings"]["num_with_several_references"] == 1
    assert "nrefs:var" in figures["settings"]["chrf"]


def test_boilerplate_is_stripped_from_both_sides() -> None:
    tail = " NIH: National Cancer Institute"
    plain = [sample(n, "base", "Rest helps." + tail, references=("Surgery heals." + tail,)) for n in range(4)]
    figures = results_of({"base": plain}, ["rouge1"])["models"]["base"]
    assert figures["rouge1"]["value"] == pytest.approx(2 * (4 / 6) ** 2 / (8 / 6))
    assert figures["rouge1_stripped"]["value"] == 0


def test_stripped_figures_stand_on_the_page_only_where_something_was_stripped() -> None:
    tailed = sample(0, "base", f"{good(0)}\n\nNIH: National Heart, Lung, and Blood Institute")
    plain = sample(0, "base", good(0))
    pages = [
        make_page(results_of(by_model, ["rouge1"]), by_model)
        for own in (tailed, plain)
        for by_model in [{"base": [own], "adapter": [replace(plain, model="adapter")]}]
    ]
    assert ["ROUGE-1 stripped" in page for page in pages] == [True, False]
    assert ["rouge1_stripped" in page for page in pages] == [True, False]
    assert ["there was nothing to strip" in page for page in pages] == [False, True]


def test_multiple_choice_figures_with_the_majority_line() -> None:
    gold = (0,) * 6 + (1,) * 3 + (2,)
    own = ChoiceResults(("yes", "no", "maybe"), gold, {"adapter": gold, "base": [0, 1] * 5}, tuple("abcdefghij"))
    results = results_of({"base": [sample(0, "base", PARROT)]}, choices={"pubmedqa": own})["multiple_choice"][
        "pubmedqa"
    ]
    assert results["items"] == 10
    assert results["floors"]["majority"]["accuracy"]["value"] == pytest.approx(0.6)
    assert results["floors"]["majority"]["macro_f1"]["value"] == pytest.approx(2 * 6 / (6 + 10) / 3)
    assert results["floors"]["majority"]["choice"] == "yes"
    assert results["models"]["adapter"]["accuracy"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert results["differences"]["adapter-base"]["accuracy"]["better"] is True


def test_items_seen_in_training_are_scored_apart() -> None:
    gold, ids = (0, 0, 1, 1), ("a", "b", "c", "d")
    own = ChoiceResults(("yes", "no"), gold, {"base": [0, 0, 0, 1]}, ids, frozenset({"d", "b"}))
    results = results_of({"base": [sample(0, "base", PARROT)]}, choices={"quiz": own})["multiple_choice"]["quiz"]
    assert results["models"]["base"]["accuracy"]["value"] == pytest.approx(3 / 4)
    apart = results["contaminated"]
    assert apart["ids"] == ["b", "d"]
    assert apart["seen"]["models"]["base"]["accuracy"]["value"] == 1
    assert apart["unseen"]["models"]["base"]["accuracy"]["value"] == pytest.approx(1 / 2)
    assert (apart["seen"]["items"], apart["unseen"]["items"]) == (2, 2)
    clean = results_of({"base": [sample(0, "base", PARROT)]}, choices={"quiz": replace(own, seen=frozenset())})
    assert "contaminated" not in clean["multiple_choice"]["quiz"]


def test_the_power_is_stated() -> None:
    generator = np.random.default_rng(1)

    def scored(model: str, count: int) -> list[Sample]:
        return [
            sample(n, model, None, nll_sum=float(generator.normal(20, 2)), answer_tokens=10, answer_bytes=40)
            for n in range(count)
        ]

    few, many = (results_of({name: scored(name, n) for name in ("adapter", "base")}, ["nll"]) for n in (40, 640))
    small, large = (own["differences"]["adapter-base"]["nll"]["detectable"] for own in (few, many))
    # The difference of two means of n draws with sd 0.2: 2.8 * 0.2 * sqrt(2 / n).
    assert small == pytest.approx(2.8 * 0.2 * math.sqrt(2 / 40), rel=0.3)
    assert large == pytest.approx(2.8 * 0.2 * math.sqrt(2 / 640), rel=0.15)
    (sentence,) = power_sentences(few)
    assert f"with 40 questions, differences smaller than {small:.2g} in nll" in sentence


def test_samples_survive_the_file(tmp_path: Path) -> None:
    samples = [sample(n, model, good(n) + "\n\u2028 ß", nll_sum=n / 3) for model in ("a", "b") for n in range(3)]
    write_samples(tmp_path / "samples.jsonl", samples)
    assert read_samples(tmp_path / "samples.jsonl") == {"a": samples[:3], "b": samples[3:]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no samples"),
        ("{}", ":1: damaged line"),
        ("nonsense", ":1: damaged line"),
        ('{"id": "1", "color": 1, "references": []}', "unknown key color"),
    ],
)
def test_damaged_or_unlike_samples_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_samples(path)
    write_samples(path, [sample(0, "a", PARROT), sample(1, "b", PARROT)])
    with pytest.raises(InputError, match="different questions"):
        read_samples(path)


def test_samples_that_are_not_there_or_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    with pytest.raises(InputError, match=r"no samples in .*samples\.jsonl") as caught:
        read_samples(path)
    assert caught.value.hint == "measure first: medqa eval"
    path.write_bytes('{"id": "Ménière"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"samples\.jsonl cannot be read: 'utf-8' codec") as caught:
        read_samples(path)
    assert caught.value.hint == "measure again: medqa eval"


class Page(HTMLParser):
    """Reads a page: open and closed elements, attributes, and the texts of one class of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "option", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "option":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def test_the_page_is_whole_safe_and_needs_no_network() -> None:
    evil = "</script><script>alert(1)</script><img src=http://example.org/x>"
    samples = {
        "adapter": [sample(n, "adapter", good(n) if n else evil * 3) for n in range(6)],
        "base": [sample(n, "base", "Take rest. " * 5, question=evil, topic=evil) for n in range(6)],
    }
    results = results_of(samples, floors={"wrong_topic": [sample(n, "wrong_topic", PARROT) for n in range(6)]})
    text = make_page(results, samples)
    page = Page(text)
    assert page.open == []
    tags = [tag for tag, _ in page.found]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert all(
        not str(attributes.get(name) or "").startswith(("http", "//"))
        for _, attributes in page.found
        for name in ("src", "href")
    )
    assert "url(" not in text
    assert "@import" not in text
    questions = [attributes for tag, attributes in page.found if tag == "details"]
    assert len(questions) == 6
    scores = [float(str(attributes["data-score"])) for attributes in questions]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert questions[0]["data-place"] == "0"  # the evil answer is the worst
    assert "not finished" in text
    assert "repeats itself" in text
    value = results["models"]["adapter"]["rougeL"]
    assert f"{value['value']:.3f} [{value['ci95'][0]:.3f}, {value['ci95'][1]:.3f}]" in text


def test_differing_words_are_marked() -> None:
    assert marked("Rest helps <much> today", "rest really helps today.") == "Rest helps <mark>&lt;much&gt;</mark> today"
    assert marked("a b", "c d") == "<mark>a b</mark>"
    assert marked("", "c d") in ("", "<mark></mark>")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": 5}, "id is 5; expected text that is not empty"),
        ({"topic": None}, "topic is None; expected text"),
        ({"question": " "}, "question is ' '; expected text that is not empty"),
        ({"model": "\ud800"}, r"model is '\\ud800'; expected text that is not empty"),
        ({"references": []}, r"references is \[\]; expected a list of texts that are not empty"),
        ({"nll_sum": float("nan")}, "nll_sum is nan; expected a number from 0"),
        ({"nll_sum": True}, "nll_sum is True; expected a number from 0"),
        ({"answer_tokens": 1e300}, r"answer_tokens is 1e\+300; expected a whole number"),
        ({"answer_bytes": -1}, "answer_bytes is -1; expected a whole number"),
        ({"truncated": 0}, "truncated is 0; expected true or false"),
        ({"finish_reason": "eos"}, "finish_reason is 'eos'; expected stop, length, repetition or null"),
    ],
)
def test_a_sample_with_a_wrong_value_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    good = {"id": "1", "topic": "", "model": "base", "question": "What is flu?", "references": ["A cold."]}
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, "id": "2", **changes}) + "\n")
    with pytest.raises(InputError, match=rf"samples\.jsonl:2: damaged line: {said}"):
        read_samples(path)
