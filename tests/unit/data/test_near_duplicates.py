"""Near copies: the sets and their overlap are exact, and MinHash proposes every pair that comparing all pairs finds."""

import functools
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from medqa_cli.data import sketches as sketching
from medqa_cli.data.minhash import MISS_PROBABILITY, NOT_FOUND, NUM_PERM, bands, shingle_sets, words_of
from medqa_cli.data.near_duplicates import QUESTIONS_OF_A_TEMPLATE, RowSketches, TextSketches
from medqa_cli.data.normalize import key_of, normalize
from medqa_cli.data.sketches import SketchMaker

WORDS = [f"w{number}" for number in range(400)]


@functools.cache
def runs(text: str) -> frozenset[tuple[str, ...]]:
    words = text.split()
    return frozenset(tuple(words[i : i + 5]) for i in range(len(words) - 4)) or frozenset({(text,)})


def exact(one: str, other: str) -> float:
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def overlap(one: str, other: str) -> float:
    """What ``exact`` is, of the hashed runs."""
    ours, theirs = ({*hashes.tolist()} for hashes in shingle_sets([one, other]))
    return len(ours & theirs) / len(ours | theirs)


def near(one: str, other: str, threshold: float) -> bool:
    """Overlapping, and of short answers (less than 20 runs) one has to hold the other."""
    smaller, larger = sorted((runs(one), runs(other)), key=len)
    return exact(one, other) >= threshold and (len(smaller) >= 20 or smaller <= larger)


def perturbed(text: str, share: float, draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) if draw.random() < share else word for word in text.split())


def texts(count: int) -> list[str]:
    """Families of texts whose members differ in no word, few words or many."""
    draw = random.Random(7)
    made: list[str] = []
    while len(made) < count:
        original = " ".join(draw.choices(WORDS, k=draw.choice([3, 6, 30, 200])))
        made += [perturbed(original, share, draw) for share in (0, 0, 0.005, 0.01, 0.02, 0.05, 0.2)]
    draw.shuffle(made)
    return made[:count]


def sketched(answers: list[str], threshold: float, folder: Path) -> TextSketches:
    sketches = TextSketches(folder / "sets", threshold)
    for answer in answers:
        sketches.add(answer, key_of(answer))
    return sketches


@pytest.fixture(scope="module")
def answers() -> list[str]:
    return texts(500)


def test_the_sets_are_those_of_the_runs_of_words(answers: list[str]) -> None:
    pairs = list(itertools.pairwise(answers))
    pairs += [(text, perturbed(text, 0.02, random.Random(number))) for number, text in enumerate(answers)]
    overlaps = [exact(one, other) for one, other in pairs]
    assert [overlap(one, other) for one, other in pairs] == overlaps
    assert sum(0 < overlap < 1 for overlap in overlaps) > 100


def test_a_repeated_run_counts_once() -> None:
    long, short, other = shingle_sets(["a b c d e " * 3, "a b c d", "a b c e"])
    assert (len(long), len(short)) == (5, 1)
    assert short.tolist() != other.tolist()


def test_a_run_is_not_the_same_words_in_another_order() -> None:
    assert overlap("a b c d e", "e d c b a") == 0


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0])
def test_hardly_a_pair_at_the_threshold_is_overlooked(threshold: float) -> None:
    number, rows = bands(threshold)
    assert number * rows <= NUM_PERM
    assert (1 - threshold**rows) ** number <= max(MISS_PROBABILITY, (1 - threshold) ** NUM_PERM)
    assert bands(0.8) == (40, 5)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_finds_what_comparing_all_pairs_finds(answers: list[str], threshold: float, tmp_path: Path) -> None:
    asked, others = list(range(0, 500, 2)), list(range(1, 500, 2))
    with sketched(answers, threshold, tmp_path) as sketches:
        found = sketches.near(asked, others)
        for one, other in zip(asked, found, strict=True):
            if other != NOT_FOUND:
                assert other in others
                assert exact(answers[one], answers[other]) >= threshold
    wanted = [any(near(answers[one], answers[other], threshold) for other in others) for one in asked]
    assert [other != NOT_FOUND for other in found] == wanted
    assert 50 < sum(wanted) < 245


def test_answers_in_another_order_give_the_same(answers: list[str], tmp_path: Path) -> None:
    half = len(answers) // 2
    with sketched(answers, 0.8, tmp_path) as sketches:
        forward = sketches.near(list(range(half)), list(range(half, len(answers))))
        backward = sketches.near(list(range(half))[::-1], list(range(half, len(answers)))[::-1])
    assert [n == NOT_FOUND for n in forward] == [n == NOT_FOUND for n in backward[::-1]]


def test_short_answers_are_near_only_when_equal(tmp_path: Path) -> None:
    with sketched(["yes", "yes", "no", "yes it is", "yes it was"], 0.5, tmp_path) as sketches:
        assert sketches.near([0, 2, 3, 4], [1]) == [1, NOT_FOUND, NOT_FOUND, NOT_FOUND]


def test_nothing_to_compare(tmp_path: Path) -> None:
    with sketched(["yes"], 0.8, tmp_path) as sketches:
        assert sketches.near([0], []) == [NOT_FOUND]
        assert sketches.near([], [0]) == []


def test_answers_may_be_added_after_a_search(tmp_path: Path) -> None:
    long = " ".join(WORDS[:100])
    with sketched([long, "other"], 0.8, tmp_path) as sketches:
        assert sketches.near([0], [1]) == [NOT_FOUND]
        sketches.add(long + " more", key_of(long + " more"))
        assert sketches.near([0], [1, 2]) == [2]


def test_many_answers_that_are_all_alike(tmp_path: Path) -> None:
    """Each is in one bucket with all others: the pairs alone would fill the memory."""
    draw = random.Random(3)
    base = " ".join(draw.choices(WORDS, k=150))
    alike = [f"{base} {number}" for number in range(4000)]
    with sketched(alike, 0.8, tmp_path) as sketches:
        found = sketches.near(list(range(2000)), list(range(2000, 4000)))
    assert all(other >= 2000 for other in found)


def _blocks(count: int) -> Iterator[str]:
    draw = random.Random(11)
    for _ in range(count):
        yield " ".join(draw.choices(WORDS, k=20))


def test_unrelated_answers_across_several_blocks(tmp_path: Path) -> None:
    unrelated = list(_blocks(5000))
    unrelated[4999] = unrelated[17] + " x"
    with sketched(unrelated, 0.8, tmp_path) as sketches:
        found = sketches.near(list(range(4000)), list(range(4000, 5000)))
    assert {row: other for row, other in enumerate(found) if other != NOT_FOUND} == {17: 4999}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("患有胆囊炎", ["患", "有", "胆", "囊", "炎"]),
        ("her2阳性 乳腺癌", ["her2", "阳", "性", "乳", "腺", "癌"]),
        ("糖尿病とは", ["糖", "尿", "病", "と", "は"]),
        ("ปวดหัว", ["ป", "ว", "ด", "ห", "\u0e31", "ว"]),
        ("ປວດ", ["ປ", "ວ", "ດ"]),
        ("ឈឺ", ["ឈ", "\u17ba"]),
        ("နာ", ["န", "\u102c"]),
        ("당뇨병은 무엇 입니까", ["당뇨병은", "무엇", "입니까"]),
        ("मधुमेह क्या है", ["मधुमेह", "क्या", "है"]),
        ("où est l été", ["où", "est", "l", "été"]),
    ],
)
def test_a_character_is_a_word_where_words_have_no_spaces(text: str, words: list[str]) -> None:
    assert words_of(text) == words


HAN = [chr(0x4E00 + number) for number in range(300)]
THAI = [chr(0x0E01 + number) for number in range(40)]


def unspaced_texts(count: int) -> list[str]:
    """Families of texts in Han or Thai characters, some with words of Latin letters, with few or many changes."""
    draw = random.Random(5)
    made: list[str] = []
    while len(made) < count:
        alphabet = draw.choice([HAN, THAI])
        original = draw.choices(alphabet, k=draw.choice([4, 12, 30, 70, 200]))
        if draw.random() < 0.3:
            original[len(original) // 2] = " her2 plus "
        for share in (0, 0.01, 0.02, 0.05, 0.3):
            made.append("".join(draw.choice(alphabet) if draw.random() < share else sign for sign in original))
    draw.shuffle(made)
    return [normalize(text) for text in made[:count]]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_text_without_spaces_is_compared_by_runs_of_five_characters(threshold: float, tmp_path: Path) -> None:
    texts_ = unspaced_texts(400)
    spaced = [" ".join(words_of(text)) for text in texts_]
    asked, others = list(range(0, 400, 2)), list(range(1, 400, 2))
    with sketched(texts_, threshold, tmp_path) as sketches:
        found = sketches.near(asked, others)
    wanted = [any(near(spaced[one], spaced[other], threshold) for other in others) for one in asked]
    assert [other != NOT_FOUND for other in found] == wanted
    assert 30 < sum(wanted) < 190


TEMPLATE = "based on your symptoms it seems like you have a fracture of the"


def test_a_short_answer_with_another_word_is_no_copy(tmp_path: Path) -> None:
    answers_ = [f"{TEMPLATE} {bone}" for bone in ("jaw", "rib", "wrist")]
    answers_ += [f"{TEMPLATE} jaw bone", "yes " + answers_[1]]
    assert exact(answers_[0], answers_[1]) > 0.8
    with sketched(answers_, 0.8, tmp_path) as sketches:
        assert sketches.near([0, 1, 2], [1, 2, 0]) == [0, 1, 2]  # each is itself among the others
        assert sketches.near([0], [1, 2]) == sketches.near([2], [0, 1, 3, 4]) == [NOT_FOUND]
        assert sketches.near([0, 1], [3, 4]) == [3, 4]  # one holds the other


@pytest.mark.parametrize(("words", "found"), [(23, False), (24, True)])
def test_a_longer_answer_may_end_in_another_word(words: int, found: bool, tmp_path: Path) -> None:
    common = " ".join(WORDS[: words - 1])
    with sketched([f"{common} jaw", f"{common} rib"], 0.8, tmp_path) as sketches:
        assert (sketches.near([0], [1]) == [1]) is found


TEMPLATE = "see the page of your clinic on this illness for what is known of it and its care"


@pytest.mark.parametrize(
    ("answer", "questions", "expected"),
    [
        (TEMPLATE, QUESTIONS_OF_A_TEMPLATE, True),
        (TEMPLATE, QUESTIONS_OF_A_TEMPLATE - 1, False),
        (" ".join(WORDS[:24]), QUESTIONS_OF_A_TEMPLATE, False),  # too long to say little
        ("yes", 1, True),
    ],
)
def test_an_option_or_the_answer_to_many_questions_is_of_little_meaning(
    tmp_path: Path, answer: str, questions: int, expected: bool
) -> None:
    with RowSketches(tmp_path / "sets", 0.8) as rows:
        for name in ("gout", "asthma", "rabies", "mumps", "scurvy")[:questions]:
            rows.add(f"What is {name} and how is it treated today?", normalize(answer), key_of(normalize(answer)))
        rows.add("What is lupus?", normalize(" ".join(WORDS[30:50])), b"other")
        assert rows.of_little_meaning(range(len(rows))) == (set(range(questions)) if expected else set())


@pytest.mark.parametrize("remembered", [0, 1 << 17])
def test_sketches_made_elsewhere_are_those_made_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr(sketching, "MOST_KEYS_REMEMBERED", remembered)
    made_here = texts(200)
    pairs = [(f"what is illness {number % 20}", answer) for number, answer in enumerate([*made_here, *["yes"] * 40])]
    keys = [key_of(answer) for _, answer in pairs]
    makers = [SketchMaker(0.8), SketchMaker(0.8)]
    with RowSketches(tmp_path / "one", 0.8) as one, RowSketches(tmp_path / "two", 0.8) as two:
        for (question, answer), key in zip(pairs, keys, strict=True):
            one.add(question, answer, key)
        for number, start in enumerate(range(0, len(pairs), 16)):
            part = slice(start, start + 16)
            for key, sketch in zip(keys[part], makers[number % 2].sketches(pairs[part], keys[part]), strict=True):
                two.add_made(key, sketch)
        rows, others = list(range(0, 240, 2)), list(range(1, 240, 2))
        little = one.of_little_meaning(rows)
        assert two.of_little_meaning(rows) == little
        assert two.near_rows(rows, others, little) == one.near_rows(rows, others, little)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert little
