"""Every causal architecture of the installed Transformers is computed as Transformers does, or refused by name."""

import pytest

from helpers.paths import ROOT
from helpers.tiny_architectures import NOT_BUILT, causal_types, page, try_architecture

PAGE = ROOT / "docs" / "architectures.md"


def rows() -> dict[str, str]:
    table = PAGE.read_text(encoding="utf-8").partition("\n## All types\n")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines[1:]}


@pytest.mark.parametrize("model_type", causal_types())
def test_packed_or_one_at_a_time_equals_plain_or_is_refused(model_type: str) -> None:
    tried = try_architecture(model_type)
    assert tried.row == rows().get(model_type), "write docs/architectures.md again: python tools/architectures_page.py"
    if "| packed |" in tried.row or "| one at a time |" in tried.row:
        assert tried.largest_difference < 1e-5
        assert tried.gradient_difference < 1e-4
    else:
        assert "| refused |" in tried.row or model_type in NOT_BUILT


def test_the_page_is_what_the_tool_writes() -> None:
    assert list(rows()) == causal_types()
    assert PAGE.read_text(encoding="utf-8") == page(rows().values())
