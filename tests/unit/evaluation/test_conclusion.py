"""The five lines follow from the figures: each rule on results that were made up for it."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from medqa_cli import console
from medqa_cli.config.schema import EvalConfig
from medqa_cli.evaluation.conclusion import Line, conclude
from medqa_cli.evaluation.gate import parse_conditions, with_gate
from medqa_cli.evaluation.page import make_page
from medqa_cli.evaluation.report import show
from medqa_cli.evaluation.results import make_results
from medqa_cli.evaluation.samples import Sample

QUESTIONS = [
    "Better than the untuned model?",
    "Better than copying an answer?",
    "Do its answers end properly?",
    "Can I use it?",
    "What is next?",
]
NOBODY = "no clinician has judged its answers"
LEARNED_NOTHING = " It has not learned to decline: it does so in "
DO_NOT_GIVE = "Do not pass the model on: "


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.01, value + 0.01]}


def own(nll: float = 2.0, overlap: float = 0.2, topic: float = 0.4, **more: float) -> dict[str, Any]:
    values = {"nll": nll, "rougeL": overlap, "topic_coverage": topic, "finished_rate": 1.0, "loop_rate": 0.0, **more}
    return {name: figure(value) for name, value in values.items()}


def difference(nll: bool | None, overlap: bool | None, topic: bool | None) -> dict[str, Any]:
    better = {"nll": nll, "rougeL": overlap, "topic_coverage": topic}
    return {name: {**figure(0.1), "better": said, "detectable": 0.1} for name, said in better.items()}


def results(
    against_base: tuple[bool | None, bool | None, bool | None] = (True, True, None),
    not_beaten: dict[str, dict[str, bool | None]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Results in which the tuned model is better than its base and than both baselines, unless told otherwise."""
    copies = {"rougeL": figure(0.25), "topic_coverage": figure(0.45)}
    return {
        "split": "test",
        "questions": 200,
        "topics": 80,
        "models": {"adapter": own(1.5, 0.3, 0.5), "adapter_greedy": own(loop_rate=0.5), "base": own()},
        "floors": {"nearest_question": copies, "wrong_topic": copies, "cut_reference": copies},
        "differences": {"adapter-base": difference(*against_base)},
        "floors_not_beaten": {"adapter": not_beaten or {}, "base": {}},
        "multiple_choice": {},
        "leakage": {"question": 0, "answer": 0, "near_duplicate_answer": 0, "topic": None},
        "settings": {"max_new_tokens": 256, "limit": None},
        **more,
    }


def review(
    better: bool | None = True, harm: float = 0.05, current: bool = True, models: tuple[str, ...] = ("adapter", "base")
) -> dict[str, Any]:
    wins = {"adapter-base": {"win_rate": {**figure(0.7), "better": better}}} if len(models) > 1 else {}
    said = {model: {"could_harm": figure(harm)} for model in models}
    return {"current": current, "questions": 40, "raters": {"anna": {}, "ben": {}}, "models": said, "differences": wins}


def memory(memorized: int = 0, fires: bool = False, said: int = 0, said_by_base: int = 0) -> dict[str, Any]:
    ranks = {model: {"train": {"fires": fires, "said": number}} for model, number in (("adapter", said),)}
    ranks["base"] = {"train": {"fires": False, "said": said_by_base}}
    return {
        "verbatim": {"adapter": {"train": {"rows": 150, "memorized": memorized}}},
        "identifiers": {"candidates": 128, "models": ranks},
    }


def said(found: dict[str, Any], judged: dict[str, Any] | None = None) -> list[str]:
    """Return the answers; that the questions are always the same five is checked here."""
    lines = conclude(found, judged)
    assert [line.question for line in lines] == QUESTIONS
    assert [bool(line.command) for line in lines] == [False, False, False, False, True]
    assert all(line.answer.endswith(".") for line in lines)
    return [line.answer for line in lines]


def step(found: dict[str, Any], judged: dict[str, Any] | None = None) -> str:
    return conclude(found, judged)[-1].command


@pytest.mark.parametrize(
    ("against_base", "expected"),
    [
        (
            (True, True, None),
            "Yes: it is better in likelihood of the reference answers (loss 1.500 against 2.000, lower is better) and "
            "likeness to the reference answers (ROUGE-L 0.300 against 0.200); no difference is seen in use of the "
            "topic's words (0.500 against 0.400).",
        ),
        ((None, True, None), "Yes: it is better in likeness to"),
        ((None, None, True), "Yes: it is better in use of the topic's words"),
        ((True, None, None), "Not shown: it is better only in likelihood"),
        ((None, None, None), "Not shown: no difference is seen in likelihood"),
        ((False, None, None), "No: it is worse in likelihood"),
        ((None, None, False), "No: it is worse in use of the topic's words"),
        (
            (True, False, None),
            "Not clearly: it is better in likelihood of the reference answers (loss 1.500 against 2.000, lower is "
            "better), but worse in likeness to the reference answers (ROUGE-L 0.300 against",
        ),
    ],
)
def test_the_first_line_says_what_the_three_intervals_say(
    against_base: tuple[bool | None, bool | None, bool | None], expected: str
) -> None:
    first = said(results(against_base))[0]
    assert first.startswith(expected)
    assert first.endswith("200 questions about 80 topics were asked.")


def test_the_number_of_topics_is_not_said_where_some_questions_have_none() -> None:
    settings = {"max_new_tokens": 256, "limit": None, "clusters": 190}
    assert said(results(settings=settings))[0].endswith("200 questions were asked.")


def test_a_model_without_its_base_or_a_base_alone_answers_nothing() -> None:
    alone = results()
    del alone["models"]["base"], alone["differences"]["adapter-base"]
    assert said(alone)[0] == "Not known: adapter was measured without its base."
    assert step(alone) == "medqa eval"
    untuned = results(models={"base": own()}, differences={})
    assert said(untuned)[0] == "Not known: no tuned model was measured."
    assert step(untuned) == "medqa eval"


def test_likelihood_alone_is_no_yes_and_asks_for_answers() -> None:
    found = results()
    for figures in (*found["models"].values(), *found["differences"].values()):
        for name in [name for name in figures if name != "nll"]:
            del figures[name]
    found["floors"] = {"unigram": {"nll": figure(7.0)}}
    first, copies, endings, _, _ = said(found)
    assert first.startswith(
        "Not shown: it is better only in likelihood of the reference answers (loss 1.500 against 2.000, lower is "
        "better). What it writes was not measured. 200 questions "
    )
    assert copies == endings == "Not measured: no answers were written."
    assert step(found) == "medqa eval --set eval.metrics=all"


def test_where_rouge_reads_nothing_chrf_decides() -> None:
    found = results((None, None, None))
    for name, figures in found["models"].items():
        figures["rougeL"], figures["chrf"] = figure(0.0), figure(31.25 if name == "adapter" else 20.0)
    found["differences"]["adapter-base"]["chrf"] = {**figure(11), "better": True, "detectable": 1}
    assert "Yes: it is better in likeness to the reference answers (chrF 31.2 against 20.0); no diff" in said(found)[0]


@pytest.mark.parametrize(
    ("not_beaten", "expected", "command"),
    [
        (
            {},
            "Yes, it is better than a copy of the answer to the most similar training question and a training ans",
            "make",
        ),
        (
            {"nearest_question": {"rougeL": None}},
            "Partly, it is better than a copy of the answer to the most similar training question and a training "
            "answer about another topic, but against a copy of the answer to the most similar training question, no "
            "difference is seen in likeness to the reference answers.",
            "make",
        ),
        (
            {"nearest_question": {"rougeL": None, "topic_coverage": None}},
            "Not shown, against a copy of the answer to the most similar training question, no difference is seen in "
            "likeness to the reference answers and use of the topic's words.",
            "sources",
        ),
        (
            {"nearest_question": {"topic_coverage": None}, "wrong_topic": {"topic_coverage": None}},
            "Partly, it is better than a copy of the answer to the most similar training question and a training "
            "answer about another topic, but against a copy of the answer to the most similar training question and a "
            "training answer about another topic, no difference is seen in use of the topic's words.",
            "make",
        ),
        (
            {"nearest_question": {"rougeL": False}, "wrong_topic": {"topic_coverage": None}},
            "No, it is worse than a copy of the answer to the most similar training question in likeness to the "
            "reference answers (ROUGE-L 0.300 against 0.250). Against a training answer about another topic, no "
            "difference is seen in ",
            "sources",
        ),
    ],
)
def test_better_than_the_base_but_not_than_a_copy_is_said(
    not_beaten: dict[str, dict[str, bool | None]], expected: str, command: str
) -> None:
    found = results(not_beaten=not_beaten)
    first, second, *_ = said(found)
    assert first.startswith("Yes: ")
    assert second.startswith(expected)
    assert {"make": "medqa review make --raters anna,ben", "sources": "medqa train --set prompt.sources=3"}[
        command
    ] == step(found)


def grounded(open_book: tuple[bool | None, bool | None]) -> dict[str, Any]:
    found = results()
    found["models"] |= {
        "adapter_open_book": own(2, 0.6, 0.9, decline_rate=0.04, finished_rate=0.97),
        "adapter_absent": own(2, 0.1, 0.2, decline_rate=0.625),
    }
    copy = {"rougeL": figure(0.5), "topic_coverage": figure(0.8)}
    found["floors"] |= {"first_passage": copy, "bm25_passage": copy}
    better = dict(zip(("rougeL", "topic_coverage"), open_book, strict=True))
    found["against_copy"] = {
        "adapter_open_book": {name: {**figure(0.1), "better": value} for name, value in better.items()}
    }
    found["against_bm25"] = {
        "adapter_open_book": {name: {**figure(0.1), "better": True} for name in ("rougeL", "topic_coverage")}
    }
    # The closed book was shown no source: what a copy of one gets says nothing of it.
    found["floors_not_beaten"]["adapter"] = {"first_passage": {"rougeL": False}}
    return found


def test_a_model_with_sources_is_held_against_copies_of_them_and_says_when_it_declines() -> None:
    _, copies, endings, _, _ = said(grounded((True, True)))
    assert copies == (
        "With sources: yes, it is better than a copy of the first source and a copy of the first source of a plain "
        "text search. Without sources: yes, it is better than a copy of the answer to the most similar training "
        "question and a training answer about another topic."
    )
    assert endings == (
        "Yes: 97 % of its answers come to an end and 0 % get stuck in repetition (with or without sources, whichever "
        "is worse). With sources that do not answer, it says so in 62.5 % of the cases; with one that does, it "
        "declines in 4 %."
    )
    copies = said(grounded((False, None)))[1]
    assert copies.startswith(
        "With sources: no, it is worse than a copy of the first source in likeness to the reference answers (ROUGE-L "
        "0.600 against 0.500). Against a copy of the first source, no difference is seen in use of the topic's words."
    )
    # It has sources already.
    assert step(grounded((False, None))) == "medqa review make --raters anna,ben"


@pytest.mark.parametrize(
    ("declined", "by_titles", "questions", "expected"),
    [
        (0.5, 0.0, 200, ""),
        (0.49, 0.0, 200, f"{LEARNED_NOTHING}49 %."),
        (0.94, 0.9, 200, f"{LEARNED_NOTHING}40 % of the 10 % that the sources' titles leave to it."),
        (0.95, 0.9, 200, ""),
        (0.94, 0.9, 80, ""),  # 8 questions tell nothing
        (0.94, 0.9, 100, f"{LEARNED_NOTHING}40 % of the 10 % that the sources' titles leave to it."),
        (1.0, 1.0, 200, ""),
    ],
)
def test_a_model_that_seldom_declines_by_itself_is_named(
    declined: float, by_titles: float, questions: int, expected: str
) -> None:
    found = grounded((True, True))
    found["questions"] = questions
    found["models"]["adapter_absent"]["decline_rate"] = figure(declined)
    found["settings"]["declined_by_titles"] = {"_absent": by_titles, "_open_book": 0.0}
    assert said(found)[2].endswith(f"with one that does, it declines in 4 %.{expected}")


@pytest.mark.parametrize(
    ("finished", "loops", "expected", "command"),
    [
        (
            0.95,
            0.02,
            "Yes: 95 % of its answers come to an end and 2 % get stuck in repetition.",
            "medqa review make --raters anna,ben",
        ),
        (
            0.949,
            0.0,
            "No: 94.9 % of its answers come to an end and 0 % get stuck in repetition. At least 95 % should "
            "come to an end, and at most 2 % get stuck.",
            "medqa eval --set eval.metrics=all --set generate.max_new_tokens=512",
        ),
        (
            1.0,
            0.021,
            "No: 100 % of its answers come to an end and 2.1 % get",
            "medqa eval --set eval.metrics=all --set generate.repetition_penalty=1.1",
        ),
    ],
)
def test_answers_are_whole_from_95_percent_ended_and_at_most_2_percent_loops(
    finished: float, loops: float, expected: str, command: str
) -> None:
    found = results()
    found["models"]["adapter"] |= {"finished_rate": figure(finished), "loop_rate": figure(loops)}
    assert said(found)[2].startswith(expected)
    assert step(found) == command


@pytest.mark.parametrize(
    ("leakage", "split", "reason"),
    [
        (
            {"question": 0, "answer": 3, "near_duplicate_answer": 1200, "topic": None},
            "test",
            "rows of the test split stand in another split too (3 by answer, 1,200 by near duplicate answer)",
        ),
        ({"topic": 1}, "validation", "rows of the validation split stand in another split too (1 by topic)"),
        (None, "train", "it was trained on these questions"),
    ],
)
def test_leaks_that_the_audit_found_make_every_figure_worthless(
    leakage: dict[str, Any] | None, split: str, reason: str
) -> None:
    found = results(leakage=leakage, split=split)
    first, copies, _, use, _ = said(found)
    assert first == f"Not known: {reason}, so the figures look better than they are."
    assert copies == "Not known, for the reason above."
    assert use.startswith(f"No: its test questions were not kept out of training. Also, {NOBODY}.")
    assert step(found) == ("medqa eval --set eval.split=test" if split == "train" else "medqa convert FILE")


def test_an_audit_that_is_not_known_is_said_and_one_without_leaks_is_not() -> None:
    unknown = "Whether it was trained on some of them is not known."
    assert unknown in said(results(leakage=None))[0]
    assert unknown not in said(results())[0]


@pytest.mark.parametrize(
    ("questions", "topics", "is_few"), [(100, 30, False), (99, 80, True), (200, 29, True), (100, None, False)]
)
def test_fewer_than_100_questions_or_30_topics_are_few(questions: int, topics: int | None, is_few: bool) -> None:
    found = results((None, None, None), questions=questions, topics=topics)
    assert ("These are few: only large differences show." in said(found)[0]) is is_few
    assert step(found) == "medqa train"
    found["settings"]["limit"] = questions
    assert step(found) == ("medqa eval --set eval.metrics=all" if is_few else "medqa train")
    found["settings"]["limit"] = questions + 1  # the split has no more
    assert step(found) == "medqa train"


def test_memorized_answers_and_identifiers_forbid_to_give_the_file_away() -> None:
    assert "was not measured: do so before you pass it on." in said(results())[3]
    clean = said(results(memorization=memory(said=2, said_by_base=2)))[3]
    assert clean.endswith("None of the training data that was looked for can be extracted from it.")
    for found, parts in (
        (memory(memorized=2), "2 of 150 training answers"),
        (memory(fires=True), "identifiers of persons"),
        (memory(said=3, said_by_base=2), "identifiers of persons"),
        (memory(memorized=1, fires=True), "1 of 150 training answers and identifiers of persons"),
    ):
        use = said(results(memorization=found), review())[3]
        assert use.endswith(f"{DO_NOT_GIVE}{parts} can be extracted from it.")
    groups = [{"copies": 0, "fires": False}, {"copies": 16, "fires": True}]
    planted = {"canaries": {"models": {"adapter": {"answer": groups}}}}
    assert f"{DO_NOT_GIVE}planted numbers can" in said(results(memorization=planted))[3]


@pytest.mark.parametrize(
    ("judged", "begins", "command"),
    [
        (None, f"Not yet: {NOBODY}.", "medqa review make --raters anna,ben"),
        (
            review(current=False),
            f"Not yet: {NOBODY} (those that were judged are others).",
            "medqa review make --raters anna,ben --force",
        ),
        (
            review(models=("merged", "base")),
            f"Not yet: {NOBODY} (those that were judged are others).",
            "medqa review make --raters anna,ben --force",
        ),
        (
            review(),
            "Only where somebody who can judge it reads each answer before a patient does. 2 raters judged 40 "
            "questions: its answers were the better ones in 70 % [69, 71] (it is preferred); 5 % [4, 6] of its answers "
            "could harm a patient, they said.",
            "medqa serve --feedback wrong.json",
        ),
        (
            review(None),
            "Only where somebody",
            "medqa review make --questions 100 --raters anna,ben,carl --force",
        ),
        (
            review(models=("adapter",)),
            "Only where somebody who can judge it reads each answer before a patient does. 2 raters judged 40 "
            "questions; 5 % ",
            "medqa review make --questions 100 --raters anna,ben,carl --force",
        ),
        (
            review(False),
            "No: raters prefer the untuned model. 2 raters judged",
            "medqa review export --format dpo",
        ),
    ],
)
def test_use_goes_by_what_clinicians_said_of_these_answers(
    judged: dict[str, Any] | None, begins: str, command: str
) -> None:
    assert said(results(), judged)[3].startswith(begins)
    assert step(results(), judged) == command


def test_of_a_model_with_sources_the_answers_with_sources_count_as_judged() -> None:
    judged = review(models=("adapter", "adapter_open_book"))
    judged["models"]["adapter_open_book"] = {"could_harm": figure(0.25)}
    wins = {"win_rate": {**figure(0.2), "better": False}}
    for base in ("base_open_book", "base"):
        judged["differences"] = {f"adapter_open_book-{base}": wins}
        use = said(grounded((True, True)), judged)[3]
        assert use.startswith("No: raters prefer the untuned model.")
        assert "; 25 % [24, 26] of its answers could harm" in use
    alone = review(models=("adapter_open_book",))
    assert "no clinician" not in said(grounded((True, True)), alone)[3]


def test_a_failed_gate_or_a_worse_model_is_a_no_also_after_a_good_review() -> None:
    conditions = parse_conditions(["adapter.nll > 1", "adapter.nll > 9", "adapter.bleu > 1"])
    failed = with_gate(results(), conditions)
    # What was not measured is named by the gate itself.
    assert failed["gate"] == [
        {"condition": "adapter.nll > 1", "failed": True},
        {"condition": "adapter.nll > 9", "failed": False},
    ]
    assert said(failed, review())[3].startswith("No: it fails the gate adapter.nll > 1. 2 raters judged")
    assert step(failed, review()) == "medqa train"
    worse = with_gate(results((False, None, None)), [])
    assert "gate" not in worse
    assert said(worse)[3].startswith(f"No: it is worse than the untuned model. Also, {NOBODY}.")
    assert step(worse) == "medqa train"


def every_case() -> list[list[Line]]:
    """Return the lines of results in every combination of what the rules look at."""
    sides = (True, False, None)
    cases = []
    for against_base, judged, memorized, leak, whole in itertools.product(
        ((True, True, True), (False, True, None), (False, False, None), (None, None, None), (True, None, None)),
        (None, review(), review(False), review(None), review(current=False)),
        ({}, memory(), memory(1, True)),
        (0, 2, None),
        (0.5, 1.0),
    ):
        for copy in sides:
            found = results(against_base, {"nearest_question": {"rougeL": copy}} if copy is not True else {})
            found |= {"memorization": memorized, "leakage": leak if leak is None else {"answer": leak}}
            found["models"]["adapter"]["finished_rate"] = figure(whole)
            cases.append(conclude(found, judged))
    return cases


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "medqa eval --set eval.metrics=all"),
        (["-c", "my runs/b.yaml"], "medqa eval --set eval.metrics=all -c 'my runs/b.yaml'"),
        (
            ["-c", "b.yaml", "--set", "eval.metrics=[nll]", "--set", "run_dir=b"],
            "medqa eval --set eval.metrics=all -c b.yaml --set run_dir=b",
        ),
    ],
)
def test_next_command_names_the_config_as_the_evaluation_did(options: list[str], expected: str) -> None:
    found = results(models={"adapter": {"nll": figure(1.5)}, "base": {"nll": figure(2.0)}}, options=options)
    assert step(found) == expected


def test_next_command_that_is_no_evaluation_leaves_out_settings_of_one() -> None:
    found = results(options=["--set", "eval.limit=9", "--set", "run_dir=b"])
    assert step(found) == "medqa review make --raters anna,ben --set run_dir=b"


def test_no_case_calls_a_model_safe_and_each_names_a_command_that_exists() -> None:
    cases = every_case()
    texts = {" ".join(f"{line.question} {line.answer}" for line in lines) for lines in cases}
    assert len(texts) > 200
    for text in texts:
        assert not any(word in text.lower() for word in ("safe", "reliable", "trust", "approved"))
        assert text.count("Do not pass the model on") <= 1
    for use in {lines[3].answer for lines in cases}:
        assert use.startswith(("No: ", f"Not yet: {NOBODY}", "Only where somebody who can judge it reads each answer"))
    commands = {lines[-1].command for lines in cases}
    assert len(commands) >= 7
    # The commands of that page are tested.
    page = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    assert {command for command in commands if f"`{command}`" not in page} == set()


def test_page_and_terminal_say_the_same_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(number: int, model: str, answer: str) -> Sample:
        words = "Rest and fluids help, said Anna & <Ben>."
        return Sample(str(number), f"topic {number}", model, f"What is topic {number}?", (words,), answer=answer)

    samples = {
        "adapter": [sample(number, "adapter", "Rest and fluids help.") for number in range(6)],
        "base": [sample(number, "base", "It is a disease.") for number in range(6)],
    }
    metrics = EvalConfig(metrics=("rougeL", "topic_coverage", "loop_rate"), bootstrap_draws=100)
    found = make_results(samples, {}, {}, metrics, 1, {"max_length": 9})
    monkeypatch.setenv("COLUMNS", "2000")
    console.use_json(False)
    show(found, Path("results.json"), Path("report.html"))
    shown = capsys.readouterr().out.splitlines()[-6:]
    page = make_page(found, samples)
    assert shown[0] == "Is the tuned model (adapter) better, and can I use it?"
    assert f"<h1>{shown[0]}</h1>" in page
    head = page[page.index('<dl class="answer">') : page.index("</dl>")]
    for tag in ("<b>", "</b>", "<span>", "</span>", "<code>", "</code>"):
        head = head.replace(tag, "")
    for line, line_shown in zip(conclude(found), shown[1:], strict=True):
        assert line_shown == f"{line.question} {line.answer}{f' {line.command}' if line.command else ''}"
        assert f"<dt>{line.question}</dt><dd>{line.answer}" in head
    assert "<b>Yes</b>: it is better in likeness to the reference answers" in page
