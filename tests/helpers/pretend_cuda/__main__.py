"""Runs cases on fake CUDA tensors and prints what was seen as JSON: ``python -m helpers.pretend_cuda LIBRARY CASES``.

``LIBRARY`` is made of guard.cpp, ``CASES`` is a file with a JSON list of cases (``runs.run``).
"""

import ctypes
import json
import sys
from pathlib import Path

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # before torch

import accelerate  # noqa: E402, F401 -- libraries choose their backends when they are imported: before CUDA is pretended
import bitsandbytes  # noqa: E402, F401
import peft  # noqa: E402, F401
import transformers  # noqa: E402, F401

from helpers.pretend_cuda import runs  # noqa: E402

if __name__ == "__main__":
    cases = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    print(json.dumps({case["name"]: runs.run(case) for case in cases}))
