"""Tries every door with seeded hostile input, and prints how each ended as one object of JSON.

python -m helpers.fuzz FIRST_SEED COUNT [DOOR ...]    (from tests/; with COUNT 0 the chosen seeds)
"""

import json
import os
import resource
import sys
from collections import Counter

from helpers.fuzz import eval_doors, file_doors, gguf_door, model_doors, serve_door
from helpers.fuzz.driver import attack
from helpers.fuzz.seeds import CHOSEN

# Those that need no model first: their children are smaller.
DOORS = file_doors.DOORS | eval_doors.DOORS | model_doors.DOORS | gguf_door.DOORS | serve_door.DOORS


def processor_seconds() -> float:
    usages = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(first: str, count: str, *names: str) -> None:
    os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no result
    found = {}
    for name in names or DOORS:
        before = processor_seconds()
        seeds = range(int(first), int(first) + int(count)) or CHOSEN[name]
        found[name] = attack(name, DOORS[name], seeds)
        ended = dict(Counter(one.outcome for one in found[name]))
        print(f"{name}: {ended}, {processor_seconds() - before:.1f} s of processor", file=sys.stderr)
    json.dump(found, out)
    out.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
