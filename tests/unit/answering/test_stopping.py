"""How an answer ends: loops, the limit, and that no text is shown that does not stay."""

import math
import re
from collections.abc import Sequence

import pytest

from medqa_cli.answering.stopping import END_BONUS, LoopWatch, StoppingState, seq_rep_4, start_of_repeats

STOP = 0
FACTS = (
    "Glaucoma harms the optic nerve. It is treated with eye drops, laser or surgery. Drops lower the pressure. "
    "See an eye doctor every year, since vision that is lost does not come back."
)


class Words:
    """Ids for words with the space before them, as a tokenizer has them."""

    def __init__(self) -> None:
        self.known = ["<end>"]

    def ids(self, text: str) -> list[int]:
        pieces = [f" {word}" for word in text.split()]
        self.known += [piece for piece in dict.fromkeys(pieces) if piece not in self.known]
        return [self.known.index(piece) for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.known[i] for i in ids).strip()


def run(text: str, room: int = 500, *, stops: bool = True) -> tuple[StoppingState, str, int]:
    """Feed an answer; return its state, all text that was shown, and how many tokens it took."""
    words = Words()
    ids = [*words.ids(text), *([STOP] if stops else [])]
    state = StoppingState(words.decode, {STOP}, room)
    shown = ""
    for count, token in enumerate(ids, start=1):
        state.add(token)
        shown += state.new_text()
        if state.finish_reason is not None:
            return state, shown, count
    raise AssertionError("the text ended before the answer did")


def test_an_answer_that_ends_by_itself() -> None:
    state, shown, _ = run(FACTS)
    assert (state.finish_reason, state.text(), shown) == ("stop", FACTS, FACTS)


def test_a_sentence_said_twice_in_a_row_is_a_loop() -> None:
    sentence = "Osteoporosis is a disease that makes bones weak and more likely to break in falls."
    state, shown, count = run(f"{FACTS} {sentence} {sentence} {sentence}")
    assert state.finish_reason == "repetition"
    assert state.text() == shown == f"{FACTS} {sentence}"
    # It was noticed when the second round was over, not at the end.
    assert count == len(FACTS.split()) + 2 * len(sentence.split())


def test_a_sentence_that_returns_once_later_is_no_loop() -> None:
    again = "It is treated with eye drops, laser or surgery."
    state, shown, _ = run(f"{FACTS} {again} Ask about side effects before you begin.")
    assert state.finish_reason == "stop"
    assert shown == state.text()
    assert shown.count(again) == 2


def test_a_short_phrase_may_come_twice_but_not_for_ever() -> None:
    state, _, _ = run("Rest well. Drink water often. Drink water often. Then see a doctor about it.")
    assert state.finish_reason == "stop"
    state, shown, count = run("The signs are " + "pain and swelling and " * 40)
    assert (state.finish_reason, shown) == ("repetition", state.text())
    assert state.text() == "The signs are pain and swelling and"
    assert count < 35


def test_a_loop_that_begins_inside_a_sentence_keeps_its_end() -> None:
    tail = "and it is not known what causes it in most people at all."
    state, shown, _ = run(f"The first is rare {tail} The second is rare {tail} The second is rare {tail} The second")
    assert state.finish_reason == "repetition"
    assert shown == state.text()
    assert state.text().endswith(".")


def test_the_osteoporosis_answer_of_the_first_version_is_reported() -> None:
    """Its shape: one sentence three times, cut in the fourth; seq-rep-4 of 0.38 and more."""
    sentence = "The bones become weak and brittle and may break from a minor fall or even a cough."
    text = f"Osteoporosis means porous bones. {sentence} {sentence} {sentence} The bones become"
    assert seq_rep_4(text) > 0.38
    state, _, _ = run(text, stops=True)
    assert state.finish_reason == "repetition"
    assert seq_rep_4(state.text()) == 0


def feed(pieces: Sequence[str], *, streamed: bool) -> tuple[StoppingState, str]:
    """Feed tokens given by their text, up to the end of the answer."""
    known = ["", *dict.fromkeys(pieces)]
    state = StoppingState(lambda ids: "".join(known[i] for i in ids).strip(), {STOP}, 500)
    shown = ""
    for piece in [*pieces, ""]:
        state.add(known.index(piece))
        shown += state.new_text() if streamed else ""
        if state.finish_reason is not None:
            break
    return state, shown


@pytest.mark.parametrize("streamed", [True, False])
def test_a_sentence_said_again_in_a_new_paragraph_is_a_loop(streamed: bool) -> None:
    """Its first word is another token there, so that the tokens alone tell it one round too late."""
    words = [" options", " are", " drops", ",", " laser", " and", " surgery", " for", " all", "."]
    pieces = ["Glaucoma", " harms", " eyes", ".", " The", *words, "\n\n", "The", *words, " The", *words]
    state, shown = feed(pieces, streamed=streamed)
    assert state.finish_reason == "repetition"
    assert state.text() == "Glaucoma harms eyes. The options are drops, laser and surgery for all."
    if streamed:
        assert shown == state.text()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_block_of_sentences_said_again_is_a_loop(streamed: bool) -> None:
    block = [
        f" {word}"
        for word in [
            "See",
            "a",
            "doctor",
            "soon",
            "about",
            "it.",
            "Take",
            "the",
            "drops",
            "twice",
            "on",
            "every",
            "day.",
            "Rest.",
        ]
    ]
    pieces = ["First", " this", ".", *block, " Then", " something", " else", ".", *block, *block]
    state, shown = feed(pieces, streamed=streamed)
    assert state.finish_reason == "repetition"
    assert state.text() == "".join(pieces[: -2 * len(block)])
    assert shown == (state.text() if streamed else "")


def test_short_items_of_a_list_may_return() -> None:
    items = ["-", " Fever", ".", "\n", "-", " Cough", ".", "\n", "-", " Chest", " pain", ".", "\n"]
    pieces = ["Flu", ":", "\n", *items, "Cold", ":", "\n", *items, "Ask", " your", " doctor", "."]
    state, shown = feed(pieces, streamed=True)
    assert state.finish_reason == "stop"
    assert shown == state.text() == "".join(pieces)


def test_numbered_items_that_say_the_same_are_reported_when_they_are_too_many() -> None:
    items = " ".join(
        f"{n}. The medicine {n} may cause nausea, vomiting and loss of appetite in adults." for n in range(40)
    )
    state, shown, count = run(items)
    assert state.finish_reason == "repetition"
    assert shown == state.text()
    assert count < len(items.split()) / 4


def test_every_answer_over_the_bound_is_reported_when_it_ends() -> None:
    text = "Take the red pill now. Take the red pill now. Take the red pill now."
    assert seq_rep_4(text) > 0.3
    assert run(text)[0].finish_reason == "repetition"


def test_the_limit_cuts_back_to_a_sentence() -> None:
    words = FACTS.split()
    for room in range(4, len(words)):
        state, shown, _ = run(FACTS, room, stops=False)
        assert state.finish_reason == "length"
        assert shown == state.text()
        assert FACTS.startswith(shown)
        end = FACTS.rfind(".", 0, len(" ".join(words[:room]))) + 1
        in_second_half = end >= len(" ".join(words[: room // 2]))
        assert shown == (FACTS[:end] if end and in_second_half else " ".join(words[:room])), room


def test_nothing_of_a_cut_sentence_is_shown_where_one_ended_in_the_second_half() -> None:
    state, shown, _ = run(FACTS, 25, stops=False)
    assert (
        shown
        == state.text()
        == "Glaucoma harms the optic nerve. It is treated with eye drops, laser or surgery. Drops lower the pressure."
    )


def test_the_first_half_is_shown_word_by_word() -> None:
    words = Words()
    state = StoppingState(words.decode, {STOP}, 500)
    shown = []
    for token in words.ids("Glaucoma harms the optic nerve."):
        state.add(token)
        shown.append(state.new_text())
    assert shown == ["Glaucoma", " harms", " the", " optic", " nerve."]


@pytest.mark.parametrize("text", ["", "Yes.", "é"])
def test_short_answers_are_shown_whole(text: str) -> None:
    state, shown, _ = run(text)
    assert (state.finish_reason, state.text(), shown) == ("stop", text, text)


def test_an_end_token_at_the_limit_is_a_stop() -> None:
    assert run("One two three.", room=4)[0].finish_reason == "stop"


# Leaving a loop


def retried(pieces: Sequence[str], retries: int, *, streamed: bool = True) -> tuple[StoppingState, str, list[str]]:
    """Feed tokens given by their text; also return the text that was left each time that the answer went back."""
    known = ["", *dict.fromkeys(pieces)]
    state = StoppingState(lambda ids: "".join(known[i] for i in ids).strip(), {STOP}, 500, retries)
    shown, left = "", []
    for piece in [*pieces, ""]:
        assert state.biases(1).get(known.index(piece)) != -math.inf
        state.add(known.index(piece))
        left += [state.text()] if state.went_back else []
        shown += state.new_text() if streamed else ""
        if state.finish_reason is not None:
            break
    return state, shown, left


# The full stop before it counts for the loop, so that its second round is noticed without its own.
SENTENCE = [" The", " options", " are", " drops", ",", " laser", " and", " surgery", " for", " all", " ages", "."]


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_with_a_retry_goes_on_after_the_first_round_of_its_loop(streamed: bool) -> None:
    pieces = ["Glaucoma", " harms", " eyes", ".", *SENTENCE, *SENTENCE[:-1], " Ask", " your", " doctor", "."]
    state, shown, left = retried(pieces, 1, streamed=streamed)
    assert left == ["Glaucoma harms eyes. The options are drops, laser and surgery for all ages."]
    assert (state.finish_reason, state.num_retries) == ("stop", 1)
    assert state.text() == f"{left[0]} Ask your doctor."
    assert shown == (state.text() if streamed else "")


def test_the_token_that_led_into_the_loop_is_forbidden_there_and_only_there() -> None:
    known = ["", *dict.fromkeys(["Eyes", ".", *SENTENCE])]
    state = StoppingState(lambda ids: "".join(known[i] for i in ids).strip(), {STOP}, 500, 1)
    for piece in ["Eyes", ".", *SENTENCE, *SENTENCE[:-1]]:
        state.add(known.index(piece))
    # A sentence has ended there, so that the end is likelier too.
    assert (state.went_back, state.biases(1)) == (True, {known.index(" The"): -math.inf, STOP: END_BONUS})
    state.add(known.index(" laser"))
    assert (state.went_back, state.biases(1)) == (False, {})


# Marks of sources

MARKED = ["Gout", " hurts", ".", " [", "1", "]"]


def marked(pieces: Sequence[str], num_sources: int, retries: int) -> tuple[StoppingState, list[str], dict[str, float]]:
    """Feed tokens given by their text; return the state, the shown pieces, and the biases after the last of them."""
    known = ["", *dict.fromkeys(pieces)]
    state = StoppingState(lambda ids: "".join(known[i] for i in ids).strip(), {STOP}, 500, retries)
    state.num_sources = num_sources
    shown = []
    for piece in pieces:
        state.add(known.index(piece))
        shown.append(state.new_text())
    return state, shown, {known[token_id]: bias for token_id, bias in state.biases(known.index(".")).items()}


def test_a_mark_that_names_no_source_is_left_before_any_of_it_is_shown() -> None:
    state, shown, biases = marked([*MARKED, " [", "2", "]", " [", "3", "]"], 2, 1)
    assert state.went_back
    assert state.text() == "".join(shown) == "Gout hurts. [1] [2]"
    assert biases[" ["] == -math.inf


def test_a_mark_twice_in_a_row_is_left_but_not_where_words_stand_between() -> None:
    assert marked([*MARKED, " [", "1", "]"], 2, 1)[0].text() == "Gout hurts. [1]"
    state, shown, _ = marked([*MARKED, " Rest", ".", " [", "1", "]"], 2, 1)
    assert not state.went_back
    assert state.text() == "Gout hurts. [1] Rest. [1]"
    assert state.text().startswith("".join(shown))


def test_a_wrong_mark_ends_an_answer_that_may_not_go_back() -> None:
    state, shown, _ = marked([*MARKED, " [", "2", "]"], 1, 0)
    assert state.finish_reason == "repetition"
    assert state.text() == "".join(shown) == "Gout hurts. [1]"


def test_numbers_in_brackets_stay_in_an_answer_without_sources() -> None:
    state, shown, _ = marked([*MARKED, " [", "1", "]", " [", "7", "]"], 0, 1)
    assert not state.went_back
    assert state.text() == "Gout hurts. [1] [1] [7]"
    assert state.text().startswith("".join(shown))


def test_the_end_is_likelier_with_each_retry_but_only_where_a_sentence_or_a_line_ends() -> None:
    known = ["", "\n", "Eyes", ".", " hurt", " e", "g"]
    state = StoppingState(lambda ids: "".join(known[i] for i in ids).strip(), {STOP}, 500, 3, end_bonus=1.5)
    word, line_break = known.index("Eyes"), known.index("\n")

    def add(*pieces: str) -> None:
        for piece in pieces:
            state.add(known.index(piece))

    state.num_retries = 2
    add("Eyes", " hurt")
    assert state.biases(word) == {}
    assert state.biases(line_break) == {STOP: 3.0}
    add(".")
    assert state.biases(word) == {STOP: 3.0}
    add(" e", ".", "g", ".")
    assert state.biases(word) == {}  # an abbreviation ends no sentence


def test_sentences_that_differ_in_a_word_are_left_too() -> None:
    """Their tokens repeat in no period: the share of repeated runs of words tells."""
    organs = ("pancreas", "liver", "kidney", "spleen", "stomach", "bowel", "heart", "skin")
    text = "Rest helps most people at first. " + " ".join(
        f"It is caused by a lack of an enzyme in the cells of the {organ} of the patient." for organ in organs
    )
    pieces = re.findall(r"\S+\s*", text)
    state, _, left = retried(pieces, 1, streamed=False)
    assert state.num_retries == 1
    assert left[0].startswith("Rest helps most people at first. It is caused")
    # Back to the second of the alike sentences; its first word may not stand there again.
    assert "liver" not in left[0]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("One two three four. Five six seven eight.", None),
        (
            "The lack of an enzyme in the liver. The lack of an enzyme in the skin.",
            "The lack of an enzyme in the skin.",
        ),
        ("The lack of an enzyme in the liver. The lack of an enzyme in the skin. Ask a doctor about it now.", None),
        (
            "The lack of an enzyme in the liver. The lack of an enzyme in the skin. Ask",
            "The lack of an enzyme in the s",
        ),
        ("", None),
    ],
)
def test_where_repeated_sentences_at_the_end_begin(text: str, repeated: str | None) -> None:
    start = start_of_repeats(text)
    assert start is None if repeated is None else text[start or 0 :].strip().startswith(repeated)


def test_an_answer_without_a_retry_left_ends_at_its_loop() -> None:
    other = [" Rest", " helps", " most", " people", " who", " have", " had", " an", " operation", " on", " eyes", "."]
    pieces = ["Eyes", ".", *SENTENCE, *SENTENCE[:-1], *other, *other, " More"]
    state, shown, left = retried(pieces, 1)
    assert (state.finish_reason, state.num_retries, len(left)) == ("repetition", 1, 1)
    assert state.text() == shown == f"{left[0]}{''.join(other)}"


def test_a_loop_over_the_place_of_an_earlier_retry_goes_back_no_further() -> None:
    """What stands before that place was shown when the second round broke off."""
    words = [f" w{number}" for number in range(12)]
    begun = [*words, *words[:6]]
    state, shown, left = retried([*begun, *[words[5]] * 23, *words[6:], " end"], 3)
    assert left == ["".join(begun).strip()] * 2  # first without the other w5, then without the rest of the round
    assert (state.finish_reason, state.num_retries) == ("stop", 2)
    assert shown == state.text() == f"{left[0]} end"


# The watch itself


def brute_force_repeated(ids: Sequence[int]) -> int:
    """The longest end of ``ids`` that stands earlier in it."""
    for size in range(len(ids) - 1, 0, -1):
        tail = list(ids[-size:])
        if any(list(ids[start : start + size]) == tail for start in range(len(ids) - size)):
            return size
    return 0


def test_the_watch_agrees_with_a_search_by_brute_force() -> None:
    import random

    draw = random.Random(5)
    seen = set()
    for _ in range(60):
        watch, ids = LoopWatch(), []
        for _ in range(40):
            ids.append(draw.randrange(3))
            watch.add(ids[-1])
            assert watch.repeated == brute_force_repeated(ids)
            seen.add(watch.repeated)
    assert max(seen) > 6


@pytest.mark.parametrize(
    ("period", "rounds", "loops"),
    [(1, 23, False), (1, 24, True), (8, 2, False), (8, 3, True), (12, 1, False), (12, 2, True), (50, 2, True)],
)
def test_what_counts_as_a_loop(period: int, rounds: int, loops: bool) -> None:
    watch = LoopWatch()
    for token in list(range(100, 130)) + list(range(period)) * rounds:
        watch.add(token)
    assert (watch.period == period) is loops
    assert (watch.period is not None) is loops


def test_seq_rep_4_counts_by_hand() -> None:
    assert seq_rep_4("one two three") == 0
    assert seq_rep_4("a b c d a b c d") == pytest.approx(1 - 4 / 5)
    assert seq_rep_4("A b, c d! a B c D") == pytest.approx(1 - 4 / 5)
