"""Hostile model, tokenizer, adapter and GGUF files end in one message: no traceback, no abort, no hang, no 2 GB."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import door_fuzz
import pytest

SEEDS = 300
DOORS = ["config", "weights", "tokenizer", "template", "adapter", "gguf"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """All cases: door, seed, outcome, what was said, seconds."""
    good: Path = tmp_path_factory.mktemp("good")
    door_fuzz.make_good(good)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOOR_QUICK", "1")
        return door_fuzz.run_in_two(DOORS, list(range(SEEDS)), good)


@pytest.mark.parametrize("door", DOORS)
def test_a_changed_file_is_loaded_or_refused(door: str, results: list[list[Any]]) -> None:
    own = [one for one in results if one[0] == door]
    assert [one for one in own if one[2] not in ("loaded", "refused")] == []
    # The changes do reach the doors, and not all of them are harmful.
    found = Counter(one[2] for one in own)
    assert found["refused"] > SEEDS // 4
    assert found["loaded"] > SEEDS // 30
