"""medqa: from a spreadsheet of medical questions and answers to a tuned language model, with honest figures."""

import logging
import sys

__version__ = "0.1.0"

# Where this package is installed, bitsandbytes fetches code from the hub on import (backends/cpu/ops.py, 0.50) and runs
# it. medqa downloads nothing that the config does not name.
sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]  # None: "not to be imported"

# On import, on CPUs with AVX512-BF16, it says that a package is absent which medqa does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
