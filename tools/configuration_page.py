"""Writes docs/configuration.md anew from the texts in src/medqa_cli/config/schema.py.

python tools/configuration_page.py
"""

from __future__ import annotations

from pathlib import Path

from medqa_cli.config.reference import page

PAGE = Path(__file__).resolve().parents[1] / "docs/configuration.md"

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print("wrote docs/configuration.md")
