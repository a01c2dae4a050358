"""medqa: from a spreadsheet of medical questions and answers to a tuned language model, with honest figures."""

import logging

__version__ = "0.1.0"

# On import, on CPUs with AVX512-BF16, it says that a package is absent which medqa does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
