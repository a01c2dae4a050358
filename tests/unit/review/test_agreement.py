"""Agreement of raters: alpha as published and as NLTK computes it, with intervals that come from the same sums."""

from collections import Counter

import numpy as np
import pytest

from medqa_cli.review.agreement import Unit, agreement, alpha, alpha_of_sums, coincidences

# Three coders and fifteen units, of which some lack values: Krippendorff's example (2011, section C), as in Wikipedia's
# article on his alpha.
CODERS = (
    (None, None, None, None, None, 3, 4, 1, 2, 1, 1, 3, 3, None, 3),
    (1, None, 2, 1, 3, 3, 4, 3, None, None, None, None, None, None, None),
    (None, None, 2, 1, 3, 4, 4, None, 2, 1, 1, 3, 3, None, 4),
)
EXAMPLE = [
    Unit(f"t{number}", tuple(float(value) for value in values if value is not None))
    for number, values in enumerate(zip(*CODERS, strict=True))
]


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.691), ("interval", 0.811)])
def test_alpha_of_the_published_example(level: str, published: float) -> None:
    found = agreement(EXAMPLE, level, 1)  # type: ignore[arg-type]
    assert found is not None
    assert found["alpha"]["value"] == pytest.approx(published, abs=5e-4)
    assert found["units"] == 12
    low, high = found["alpha"]["ci95"]
    assert low < published < high


@pytest.mark.parametrize("level", ["nominal", "interval"])
def test_alpha_from_sums_equals_the_librarys(level: str) -> None:
    generator = np.random.default_rng(2)
    for _ in range(5):
        units = [
            Unit(str(n), tuple(float(v) for v in generator.choice([0.0, 0.5, 1.0], generator.integers(2, 6))))
            for n in range(30)
        ]
        counts = np.array([[Counter(unit.values)[value] for value in (0.0, 0.5, 1.0)] for unit in units], dtype=float)
        values = np.array([0.0, 0.5, 1.0])
        apart = values[:, None] - values
        distances = apart**2 if level == "interval" else (apart != 0).astype(float)
        (own,) = alpha_of_sums(coincidences(counts).sum(axis=0, keepdims=True), distances)
        assert own == pytest.approx(alpha(units, level), abs=1e-9)  # type: ignore[arg-type]


def test_raw_agreement_counts_pairs_of_raters() -> None:
    units = [Unit("a", (1.0, 1.0, 0.0)), Unit("b", (0.0, 0.0)), Unit("c", (1.0,))]
    found = agreement(units, "nominal", 1)
    assert found is not None
    assert (found["units"], found["pairs"]) == (2, 4)
    assert found["raw"]["value"] == pytest.approx(2 / 4)


def test_one_value_everywhere_leaves_alpha_undefined_and_no_doubles_everything() -> None:
    found = agreement([Unit("a", (1.0, 1.0)), Unit("b", (1.0, 1.0))], "nominal", 1)
    assert found is not None
    assert found["raw"]["value"] == 1
    assert found["raw"]["ci95"][0] < 0.5
    assert found["alpha"] is None
    assert agreement([Unit("a", (1.0,)), Unit("b", ())], "nominal", 1) is None
