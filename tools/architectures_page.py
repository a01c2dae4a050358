"""Writes docs/architectures.md: tries every causal architecture that the installed Transformers knows.

python tools/architectures_page.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architectures.md"

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers.tiny_architectures import causal_types, page, try_architecture

    PAGE.write_text(page(try_architecture(model_type).row for model_type in causal_types()), encoding="utf-8")
    print("wrote docs/architectures.md")
