"""Hostile input at every door ends in work or in one message: no traceback, no abort, no hang, no 2 GB.

Tries the chosen seeds; ``make fuzz`` tries a thousand of each door, and others with ``FIRST``.
"""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from helpers.fuzz.seeds import CHOSEN, FAILED_ONCE
from helpers.paths import TESTS

FIRST, COUNT = int(os.environ.get("MEDQA_FUZZ_FIRST", "0")), int(os.environ.get("MEDQA_FUZZ_COUNT", "0"))
DOORS = ["settings", "data", "sheets", "documents", "samples", "served"]
DOORS += ["config", "weights", "tokenizer", "template", "adapter", "gguf", "requests"]
# Only these, as in make fuzz DOORS=requests.
CHOSEN_DOORS = os.environ.get("MEDQA_FUZZ_DOORS", "").split()
assert set(CHOSEN_DOORS) <= set(DOORS), f"MEDQA_FUZZ_DOORS: none of {', '.join(DOORS)}"
DOORS = CHOSEN_DOORS or DOORS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the inputs are tried in a fork")


@pytest.fixture(scope="module")
def tried() -> dict[str, list[list[object]]]:
    """For each door how its inputs ended: seed, outcome, what was said, seconds. One process: torch comes in once."""
    command = [sys.executable, "-m", "helpers.fuzz", str(FIRST), str(COUNT), *DOORS]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[list[object]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("door", DOORS)
def test_changed_input_is_loaded_or_refused(door: str, tried: dict[str, list[list[object]]]) -> None:
    assert [one for one in tried[door] if one[1] not in ("loaded", "refused")] == []
    # The changes do reach the door, and not all of them are harmful.
    ended = Counter(one[1] for one in tried[door])
    assert ended["refused"] > len(tried[door]) // 4
    assert ended["loaded"] > len(tried[door]) // 50


def test_every_door_is_tried(tried: dict[str, list[list[object]]]) -> None:
    seeds = range(FIRST, FIRST + COUNT)
    expected = {door: list(seeds or CHOSEN[door]) for door in DOORS}
    assert {door: [seed for seed, *_ in ends] for door, ends in tried.items()} == expected
    assert all(set(FAILED_ONCE[door]) <= set(CHOSEN[door]) for door in FAILED_ONCE)


FAULTS = """
import json, os, random, time
from helpers.fuzz.driver import Door, attack
from medqa_cli.errors import InputError

def refuse():
    raise InputError("no", "")

def claim():
    assert False, "wrong, and nothing was said"

def take_memory():
    bytearray(2200 << 20)

ways = [lambda: 1 / 0, os.abort, refuse, take_memory, lambda: time.sleep(60), claim, lambda: None]
way_of = {random.Random(f"x-{seed}").random(): way for seed, way in enumerate(ways)}
print(json.dumps(attack("x", Door(lambda rng, folder: way_of[rng.random()](), lambda: None), range(7), seconds=1.0)))
"""


def test_a_fault_is_found() -> None:
    """The driver sees each kind of fault, names it, and goes on behind it: the tests above can fail."""
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=TESTS, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    expected = ["traceback", "SIGABRT", "refused", "memory", "hang", "silent", "loaded"]
    assert [outcome for _, outcome, *_ in found] == expected
    assert [seed for seed, *_ in found] == list(range(7))
    assert found[0][2].startswith("ZeroDivisionError")
