"""Physicians' labels of K-QA (MIT; not part of the repository): agreement, and what the figures know of them."""

import importlib
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from helpers.paths import ROOT, SHARED_DATA

FILE = SHARED_DATA / "kqa/NLI_medical_annotator.csv"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="K-QA is not at hand")


@pytest.fixture(scope="module")
def kqa() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("kqa_figures")


@pytest.fixture(scope="module")
def rows(kqa: ModuleType) -> Any:
    return kqa.read_rows(FILE)


def test_three_physicians_agree_in_855_of_1000_pairs_and_alpha_is_that_of_krippendorff(
    kqa: ModuleType, rows: Any
) -> None:
    assert Counter(row["majority_label"] for row in rows) == {"Neutral": 234, "Entailment": 153, "Contradiction": 12}
    found = kqa.agreement(kqa.units(rows), "nominal", 1)
    assert found["raw"]["value"] == pytest.approx(0.855, abs=5e-4)
    # The package krippendorff (0.9.0), which is not installed here, gives this number.
    assert found["alpha"]["value"] == pytest.approx(0.719103307525349, abs=1e-9)


def test_shared_words_tell_what_is_entailed_and_not_what_is_contradicted(kqa: ModuleType, rows: Any) -> None:
    words = kqa.automatic_figures()["words_found"]
    values = [words.value_of(sample) for sample in kqa.samples(rows)]
    questions = [row["Question"] for row in rows]
    entailed, contradicted = (
        kqa.area(values, [row["majority_label"] == label for row in rows], questions)
        for label in ("Entailment", "Contradiction")
    )
    assert entailed[0] == pytest.approx(0.734, abs=0.002)
    assert contradicted[0] == pytest.approx(0.49, abs=0.005)
    assert entailed[1] > 0.65
    assert contradicted[1] < 0.5 < contradicted[2]


def test_area_of_known_orders(kqa: ModuleType) -> None:
    clusters = list("abcdef")
    positive = [True, True, True, False, False, False]
    assert kqa.area([4, 5, 6, 1, 2, 3], positive, clusters)[0] == 1
    assert kqa.area([1, 1, 1, 1, 1, 1], positive, clusters)[0] == 0.5
    assert kqa.area([1, 5, 3, 2, 3, 0], positive, clusters)[0] == pytest.approx((1 + 3 + 2.5) / 9)
