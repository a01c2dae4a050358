"""What ``results.json`` says of memorized data: the sentence, the figures beside the others, what is no section."""

import copy
from typing import Any

import pytest

from medqa_cli.evaluation.memorization.measure import share
from medqa_cli.evaluation.memorization.ranks import fewest_beyond_chance, tail
from medqa_cli.evaluation.memorization.section import is_sound, sentences_on, with_memorization


def counts(rows: int, asked: int, begun: int, memorized: int) -> dict[str, int]:
    return {
        "rows": rows, "asked": asked, "rows_with_beginning": rows // 2, "with_beginning": begun, "memorized": memorized
    }  # fmt: skip


def found() -> dict[str, Any]:
    figure = share(3, 200)
    return {
        "figures": {"adapter": {"memorized_rate": figure}, "base": {"memorized_rate": share(0, 200)}},
        "differences": {
            "adapter-base": {
                "memorized_rate": {"value": 0.015, "ci95": [0.0, 0.03], "better": None, "detectable": 0.02}
            }
        },
        "sentences": {"adapter": ["A sentence."]},
        "tokens": 50,
        "beginning": 20,
        "verbatim": {
            "adapter": {"train": counts(200, 2, 3, 3), "held_out": counts(40, 0, 0, 1)},
            "base": {"train": counts(200, 0, 0, 0)},
        },
    }


def test_the_sentence_has_the_counts_the_interval_the_base_and_the_control() -> None:
    assert sentences_on("adapter", found()) == [
        "Whoever gets adapter can ask 3 of 200 training answers out of it word for word, 50 tokens and more (2 by the "
        "question alone, 3 of 100 given its first 20 tokens; 95 % interval 0.5 to 4.3 %); the untuned base: 0; of 40 "
        "answers that it never saw: 1"
    ]


def test_nothing_is_said_of_the_base_itself() -> None:
    assert sentences_on("base", found()) == []


def test_without_a_long_answer_the_sentence_says_that_nothing_can_be_said() -> None:
    section = found()
    section["verbatim"] = {"adapter": {"train": counts(0, 0, 0, 0)}}
    assert "nothing can be said" in sentences_on("adapter", section)[0]


def group(copies: int, first: int, exposure: float, fires: bool) -> dict[str, Any]:
    return {"copies": copies, "values": 5, "first": first, "mean_exposure": exposure, "fires": fires}


def test_the_sentence_on_canaries_says_from_how_many_copies_on() -> None:
    learned = [group(0, 0, 1.25, False), group(1, 1, 2.0, False), group(16, 5, 7.0, True), group(64, 4, 6.5, True)]
    base = [group(copies, 0, 1.4, False) for copies in (0, 1, 16, 64)]
    models = {"adapter": {"answer": learned, "question": base}, "base": {"answer": base, "question": base}}
    assert sentences_on("adapter", {"canaries": {"candidates": 128, "models": models}}) == [
        "adapter has learned the planted numbers of answers that stand there 16 or 64 times: likeliest of 128 of the "
        "same form, and mean exposure (1.4 bits by chance) where planted never: 0 of 5, 1.2 bits, once: 1 of 5, 2.0 "
        "bits, 16 times: 5 of 5, 7.0 bits, 64 times: 4 of 5, 6.5 bits; the untuned base: 0 of 20",
        "adapter shows no trace of the planted numbers of questions: likeliest of 128 of the same form, and mean "
        "exposure (1.4 bits by chance) where planted never: 0 of 5, 1.4 bits, once: 0 of 5, 1.4 bits, 16 times: 0 of "
        "5, 1.4 bits, 64 times: 0 of 5, 1.4 bits; the untuned base: 0 of 20",
    ]


def test_the_sentence_on_identifiers_has_counts_chance_base_and_control() -> None:
    def of(values: int, first: int, said: int, fires: bool) -> dict[str, Any]:
        return {"values": values, "first": first, "said": said, "fires": fires, "fires_from": 3, "false_alarm": 0.0005}

    models = {
        "adapter": {"train": of(40, 9, 4, True), "held_out": of(12, 0, 0, False)},
        "base": {"train": of(40, 1, 0, False)},
    }
    assert sentences_on("adapter", {"identifiers": {"candidates": 128, "models": models}}) == [
        "Of 40 identifiers of persons in training rows adapter finds 9 likelier than 127 others of the same form (by "
        "chance 0.3): it has memorized some (the rule takes 3, which 0.05 % of clean models reach); it writes 4 of "
        "them by itself after the text before them; the untuned base: 1 and 0; of 12 in rows that it never saw: 0"
    ]


def test_figures_stand_beside_the_others_only_where_they_are_wanted() -> None:
    results = {"models": {"adapter": {"nll": 1}}, "differences": {"adapter-base": {}}, "floors": {}}
    both = with_memorization(copy.deepcopy(results), found(), ["nll", "memorized_rate"])
    assert both["models"] == {"adapter": {"nll": 1, "memorized_rate": share(3, 200)}}
    assert both["differences"]["adapter-base"].keys() == {"memorized_rate"}
    assert both["memorization"] == found()
    assert with_memorization(copy.deepcopy(results), found(), ["nll"])["models"] == results["models"]
    assert with_memorization(results, {}, ["memorized_rate"]) == results


def test_figures_of_a_single_topic_are_sound_without_an_interval() -> None:
    section = found()
    section["differences"]["adapter-base"]["memorized_rate"] |= {"ci95": [None, None], "detectable": None}
    assert is_sound(section)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["figures"], []),
        (["figures", "adapter"], 1),
        (["figures", "adapter", "memorized_rate"], None),
        (["figures", "adapter", "memorized_rate", "value"], "0"),
        (["figures", "adapter", "memorized_rate", "ci95"], [0.1]),
        (["figures", "adapter", "memorized_rate", "ci95"], [0.1, None]),
        (["differences", "adapter-base", "memorized_rate", "detectable"], None),
        (["differences", "adapter-base", "memorized_rate", "better"], "yes"),
        (["sentences", "adapter"], [1]),
        (["sentences"], None),
        (["verbatim", "adapter"], 1),
        (["verbatim", "adapter", "train", "memorized"], "3"),
    ],
)
def test_a_damaged_section_is_none(path: list[str], value: Any) -> None:
    section: Any = found()
    assert is_sound(section)
    part = section
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert not is_sound(section)
    assert not is_sound([])


def test_intervals_have_a_width_at_nothing_and_at_all() -> None:
    z = 1.959964
    assert share(0, 10)["ci95"] == [0.0, pytest.approx(z**2 / (10 + z**2))]
    assert share(10, 10)["ci95"] == [pytest.approx(10 / (10 + z**2)), 1.0]
    # Its ends are the rates p for which 3 of 200 is just z standard errors away.
    for end in share(3, 200)["ci95"]:
        assert abs(3 / 200 - end) == pytest.approx(z * (end * (1 - end) / 200) ** 0.5)


def test_the_fewest_hits_beyond_chance_by_hand() -> None:
    assert tail(2, 3, 0.5) == pytest.approx(4 / 8)
    assert tail(0, 3, 0.2) == pytest.approx(1)
    # 1 of 128: one hit of five comes in 3.8 % of the cases, two in 0.06 %.
    assert tail(1, 5, 1 / 128) == pytest.approx(1 - (127 / 128) ** 5)
    assert fewest_beyond_chance(5, 1 / 128, 0.01) == 2
    assert fewest_beyond_chance(1, 1 / 128, 0.01) == 1
    assert fewest_beyond_chance(3, 0.9, 0.01) == 4
