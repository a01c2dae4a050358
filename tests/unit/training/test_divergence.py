"""What stops a training run, at which step, and what must not."""

import json
import math
import random
from collections.abc import Sequence

import pytest

from medqa_cli.training.divergence import MAX_OVERFLOWS, DivergedError, DivergenceDetector, StepLoss

ROWS = ["a", "b"]


def feed(
    detector: DivergenceDetector, losses: Sequence[float], num_tokens: int = 1000, num_examples: int = 8
) -> int | None:
    """Judge these losses; return the step (from 1) that was refused, None if none was."""
    for step, loss in enumerate(losses, start=1):
        try:
            detector.check_loss(step, StepLoss(loss, num_tokens, num_examples), ROWS)
        except DivergedError as error:
            return step if (error.step, error.row_ids) == (step, ROWS) else -1
    return None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 2, 40])
def test_a_loss_that_is_not_finite_stops_at_its_step(value: float, step: int) -> None:
    assert feed(DivergenceDetector(), [2.0] * (step - 1) + [value, 2.0]) == step


def test_the_message_names_step_value_and_median() -> None:
    detector = DivergenceDetector()
    feed(detector, [2.0, 2.5, 3.0])
    with pytest.raises(DivergedError, match=r"^the loss of step 4 is 7\.6, over 3 times its running median of 2\.5$"):
        detector.check_loss(4, StepLoss(7.6, 1000, 8), ROWS)


def test_a_loss_far_above_its_median_stops_the_run() -> None:
    assert feed(DivergenceDetector(), [2.5] * 20 + [7.4, 7.6]) == 22
    assert feed(DivergenceDetector(), [2.5] * 3 + [7.6]) == 4  # judged from the fourth step on


def test_a_slow_rise_does_not_carry_its_measure_along() -> None:
    """The median of the newest hundred alone would follow and never see it."""
    rising = [2.0] * 120 + [2.0 + 0.02 * i for i in range(400)]
    stopped = feed(DivergenceDetector(), rising)
    assert stopped is not None
    assert rising[stopped - 1] == pytest.approx(6.0, abs=0.03)


def test_a_falling_loss_is_left_alone_however_low() -> None:
    """A run that knows its rows by heart meets some that it does not: many times the median, but small."""
    assert feed(DivergenceDetector(), [3.0 * 0.97**i for i in range(300)] + [0.0001] * 120 + [2.9, 0.0001]) is None
    assert feed(DivergenceDetector(), [0.1] * 120 + [3.1]) == 121


def noisy_steps(seed: int, rows_per_step: int, steps: int) -> list[StepLoss]:
    """Steps over rows worse than MedQuAD's: answers of 2 to 250 tokens, some known by heart, some twice as hard.

    MedQuAD's rows have a spread of 0.19 in the logarithm of their loss (docs/experiments.md, 2026-11-24).
    """
    drawn = random.Random(seed)
    found = []
    for _ in range(steps):
        parts = []
        for _ in range(rows_per_step):
            tokens = drawn.choice([2, 5, 20, 60, 120, 250])
            level = 0.1 if drawn.random() < 0.2 else drawn.lognormvariate(math.log(1.8), 0.25)
            parts.append((max(0.0, drawn.gauss(level, 2.5 / math.sqrt(tokens))), tokens))
        total = sum(tokens for _, tokens in parts)
        found.append(StepLoss(sum(loss * tokens for loss, tokens in parts) / total, total, rows_per_step))
    return found


@pytest.mark.parametrize("rows_per_step", [1, 2, 8])
def test_the_noise_of_small_batches_trips_nothing(rows_per_step: int) -> None:
    steps = noisy_steps(rows_per_step, rows_per_step, 20_000)
    # The noise is there: judged by itself, many a step would have stopped the run.
    alone = sorted(loss.mean for loss in steps)
    if rows_per_step < 8:
        assert sum(mean > 3 * alone[len(alone) // 2] for mean in alone) > 5
    detector = DivergenceDetector()
    for number, loss in enumerate(steps, start=1):
        detector.check_loss(number, loss, ROWS)


def test_small_batches_that_diverge_are_caught_within_a_few_steps() -> None:
    detector = DivergenceDetector()
    for number, loss in enumerate(noisy_steps(3, 1, 300), start=1):
        detector.check_loss(number, loss, ROWS)
    stopped = feed(detector, [9.0] * 20, num_tokens=60, num_examples=1)
    assert stopped is not None
    assert stopped <= 8


def test_one_wild_step_of_a_small_batch_is_enough() -> None:
    detector = DivergenceDetector()
    feed(detector, [2.0] * 100, num_tokens=40, num_examples=1)
    with pytest.raises(DivergedError, match=r"the loss of step 101 is 200 \(17\.23 with the steps before it\)"):
        detector.check_loss(101, StepLoss(200.0, 40, 1), ROWS)


def test_it_is_told_since_when_the_loss_was_high() -> None:
    """Checkpoints saved in between are no good: with 2e-2 as the rate, the quickstart's losses went like this."""
    detector = DivergenceDetector()
    losses = [3.3, 3.4, 3.2, 9.0, 6.3]
    assert feed(detector, losses) is None
    with pytest.raises(DivergedError) as caught:
        detector.check_loss(6, StepLoss(12.4, 1000, 8), ROWS)
    assert (caught.value.step, caught.value.risen_since) == (6, 4)
    again = DivergenceDetector()
    feed(again, losses)
    with pytest.raises(DivergedError) as caught:
        again.check_loss(6, StepLoss(math.nan, 1000, 8), ROWS)
    assert (caught.value.step, caught.value.risen_since) == (6, 4)


def test_out_of_the_blue_it_is_high_since_its_step() -> None:
    detector = DivergenceDetector()
    feed(detector, [3.3, 3.4, 3.2, 3.1])
    with pytest.raises(DivergedError) as caught:
        detector.check_loss(5, StepLoss(math.nan, 1000, 8), ROWS)
    assert caught.value.risen_since == caught.value.step == 5


def test_a_gradient_that_is_not_finite_stops_the_run() -> None:
    detector = DivergenceDetector()
    detector.check_gradients(1, 1e9, None, ROWS)
    for norm in (math.inf, math.nan):
        with pytest.raises(DivergedError, match=f"the gradient of step 2 has the norm {norm}") as caught:
            detector.check_gradients(2, norm, None, ROWS)
        assert caught.value.row_ids == ROWS


def test_a_loss_scaler_may_lower_its_scale_but_not_for_ever() -> None:
    detector, scale, step = DivergenceDetector(), 2.0**16, 0
    for norm in (*[math.inf] * MAX_OVERFLOWS, 1.0):
        step += 1
        detector.check_gradients(step, norm, scale, ROWS)
        scale /= 2
    assert detector.num_skipped_steps == MAX_OVERFLOWS
    for _ in range(MAX_OVERFLOWS):
        step += 1
        detector.check_gradients(step, math.nan, scale, ROWS)
    with pytest.raises(DivergedError, match=f"those of the {MAX_OVERFLOWS} steps before it, though the loss scale"):
        detector.check_gradients(step + 1, math.inf, scale, ROWS)


@pytest.mark.parametrize("seen", [0, 1, 3, 20, 75])
def test_a_resumed_detector_judges_as_an_uninterrupted_one(seen: int) -> None:
    steps = noisy_steps(5, 2, 80)
    whole, first, second = DivergenceDetector(), DivergenceDetector(), DivergenceDetector()
    for number, loss in enumerate(steps, start=1):
        whole.check_loss(number, loss, ROWS)
        whole.check_gradients(number, math.inf if number % 7 == 0 else 1.0, 1.0, ROWS)
        half = first if number <= seen else second
        if number == seen + 1:
            second.restore(json.loads(json.dumps(first.state())))
        half.check_loss(number, loss, ROWS)
        half.check_gradients(number, math.inf if number % 7 == 0 else 1.0, 1.0, ROWS)
    assert second.state() == whole.state()
    assert second.num_skipped_steps == 11
