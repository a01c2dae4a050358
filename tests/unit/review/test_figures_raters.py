"""What is told of each rater: sides, pace, what was not judged."""

import pytest

from medqa_cli.review.figures import describe_raters, two_sided_p
from medqa_cli.review.judgments import Judgment, Pair, Verdict


def judgment(number: int, better: Verdict | None, rater: str = "anna", seconds: float | None = None) -> Judgment:
    pair = Pair(f"{number}", rater, f"q{number}", "What?", "asthma", "adapter", "base", False)
    return Judgment(pair, {}, {}, better, "Hm." if number == 0 else " ", seconds)


@pytest.mark.parametrize(
    ("successes", "trials", "p"), [(8, 8, 2 / 256), (0, 8, 2 / 256), (5, 10, 1.0), (7, 8, 18 / 256), (0, 0, 1.0)]
)
def test_two_sided_p_of_a_fair_coin(successes: int, trials: int, p: float) -> None:
    assert two_sided_p(successes, trials) == pytest.approx(p)


@pytest.mark.parametrize("side", ["x", "y"])
def test_a_rater_who_always_takes_one_side_is_named_and_one_who_does_not_is_not(side: Verdict) -> None:
    both: tuple[Verdict, Verdict] = ("x", "y")
    always = [judgment(number, side) for number in range(8)]
    fair = [judgment(number, both[number % 2], "ben") for number in range(40)]
    found = describe_raters([*always, *fair])
    assert found["anna"]["x_share"]["biased"]
    assert not found["ben"]["x_share"]["biased"]
    assert found["ben"]["x_share"]["value"] == 0.5


def test_counts_and_the_median_time() -> None:
    said: list[Verdict | None] = ["x", "equal", None, "y"]
    times = (2.0, 4.0, 30.0, None)
    found = describe_raters(
        [judgment(n, *given) for n, given in enumerate(zip(said, ["anna"] * 4, times, strict=True))]
    )
    about = found["anna"]
    assert (about["judged"], about["equal"], about["cannot_judge"], about["remarks"]) == (3, 1, 1, 1)
    assert (about["median_seconds"], about["faster_than_reading"]) == (4.0, 2)


def test_a_rater_who_decides_nothing_has_no_side_and_no_time() -> None:
    about = describe_raters([judgment(0, "equal"), judgment(1, None)])["anna"]
    assert about["x_share"] is None
    assert about["median_seconds"] is None
