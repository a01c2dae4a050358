"""Cleaning rules and folding."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from medqa_cli.data.cleaning import RULES, clean, enabled_rules
from medqa_cli.data.dedup import Screen, draw, fold, is_empty, key_of, unique_id
from medqa_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("question", "answer", "clean_question", "clean_answer"),
    [
        ("  What is\n (are)\tflu ? ", "a", "What is (are) flu ?", "a"),
        ("q", "Key Points\r\n      - one   two \t\r\n\r\n\r\n\r\nnext\r", "q", "Key Points\n- one two\n\nnext"),
        ("q\u00a0r", "37\u00a0°C\u2003x\u202fy\u3000z", "q r", "37 °C x y z"),
        ("q", "one\u2028two\x0bthree\x85four", "q", "one\ntwo\nthree\nfour"),
        ("q", "a \n \n \n b", "q", "a\n\nb"),
    ],
)
def test_whitespace(question: str, answer: str, clean_question: str, clean_answer: str) -> None:
    cleaned = clean(question, answer, ("whitespace",))
    assert (cleaned.question, cleaned.answer) == (clean_question, clean_answer)
    assert cleaned.changed == (() if (question, answer) == (clean_question, clean_answer) else ("whitespace",))


def test_clean_text_counts_as_unchanged() -> None:
    assert clean("What is flu?", "An infection.\n\n- fever\n- cough", ("whitespace",)).changed == ()


def test_every_rule_is_idempotent() -> None:
    assert RULES
    drawn = random.Random(7)
    alphabet = [*"ab.,-?\"' \t\n\r\x0b\x0c\x1c\x85\u00a0\u2028\u2029\u200b\ufeff", "\r\n", "   ", "é", "\n\n\n"]
    changed = 0
    for rule in RULES.values():
        for _ in range(2000):
            raw = ["".join(drawn.choices(alphabet, k=drawn.randrange(30))) for _ in range(2)]
            once = rule.apply(raw[0], raw[1])
            assert rule.apply(*once) == once
            changed += once != tuple(raw)
    assert changed > 1000


def test_rules_are_chosen_by_name() -> None:
    assert enabled_rules({}) == ("whitespace",)
    assert enabled_rules({"whitespace": False}) == ()
    assert clean(" q ", " a ", ()).question == " q "
    with pytest.raises(ConfigError) as caught:
        enabled_rules({"whitespce": True, "zzz": False})
    assert caught.value.problems == [
        "data.cleaning.whitespce: no such cleaning rule; did you mean 'whitespace'?",
        "data.cleaning.zzz: no such cleaning rule",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is (are) Flu ?", "what is are flu"),
        ("ﬁne STRASSE", "fine straße"),
        ("Cafe\u0301", "CAFÉ"),
        ("a_b", "a b"),
    ],
)
def test_fold_ignores_case_punctuation_and_forms(one: str, other: str) -> None:
    assert fold(one) == fold(other) != ""


@pytest.mark.parametrize(("one", "other"), [("+", "-"), ("की", "का"), ("vitamin B1", "vitamin B2"), ("ab c", "a bc")])
def test_fold_keeps_different_texts_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_keys_are_the_same_on_every_platform_and_version() -> None:
    assert key_of("what is flu", "an infection").hex() == "6fab6f4ae2a618eee599ed6889d438c6"
    assert key_of("a b", "c") != key_of("a", "b c")


@pytest.mark.parametrize("text", ["", " \t", "nan", "NaN", " NULL ", "None", "\u200b", "\ufeff \u00a0"])
def test_empty_cells(text: str) -> None:
    assert is_empty(text)
    assert Screen(None).judge("q", text) == "empty_answer"
    assert Screen(None).judge(text, "a") == "empty_question"


@pytest.mark.parametrize("text", ["none", "Nan bread", "NULL hypothesis", "-", "0", "None."])
def test_cells_that_only_look_empty(text: str) -> None:
    assert not is_empty(text)
    assert not isinstance(Screen(None).judge("q", text), str)


def test_screen_rejects_duplicates_and_surplus_copies() -> None:
    screen = Screen(max_copies_of_an_answer=2)
    judged = [
        screen.judge(question, answer)
        for question, answer in [("q1", "A!"), ("Q1?", "a"), ("q2", "a"), ("q3", "a"), ("q1", "b"), ("q3", "a")]
    ]
    assert [j if isinstance(j, str) else "kept" for j in judged] == [
        "kept",
        "exact_duplicate",
        "kept",
        "over_copy_limit",
        "kept",
        "over_copy_limit",
    ]


def test_screen_rejects_what_cannot_be_written() -> None:
    assert Screen(None).judge("q\0", "a") == "nul_byte"
    assert Screen(None).judge("q", "a\ud800") == "invalid_unicode"
    assert Screen(None).judge("q", "a", "topic\0") == "nul_byte"


def test_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    keys = [key_of(str(i)) for i in range(200)]

    def chosen(keys: list[bytes], seed: int) -> set[bytes]:
        return {key for key, drawn in zip(keys, draw(keys, 50, seed), strict=True) if drawn}

    assert len(chosen(keys, 1)) == 50
    assert chosen(keys, 1) == chosen(keys[::-1], 1) != chosen(keys, 2)
    assert all(draw(keys, None, 1))
    assert all(draw(keys, 200, 1))


def test_equal_short_ids_get_a_suffix() -> None:
    taken: Counter[str] = Counter()
    pairs = [bytes(8) + bytes([last] * 8) for last in (1, 2, 3)] + [bytes([9] * 16)]
    assert [unique_id(pair, taken) for pair in pairs] == ["0" * 16, "0" * 16 + "-2", "0" * 16 + "-3", "09" * 8]
