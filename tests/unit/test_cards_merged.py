"""The card of a merged model: names that would rule the page are shown as they are."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from medqa_cli.cards import merged_card
from medqa_cli.prompt.contract import PromptContract

SUMMARY: dict[str, Any] = {
    "base_weights": "nf4",
    "trained_with": {"quantization": "nf4", "double_quantization": True},
    "dtype": "bfloat16",
    "adapter": {"kind": "LoRA", "r": 16, "lora_alpha": 32, "layers": 210},
    "data": {"train": 3, "validation": 1, "test": 2, "source": "qa.csv", "sha256": "ab" * 32},
    "verification": None,
    "not_verified": "there are no held-out questions",
    "medqa_version": "0.1.0",
    "chat_template_exact": True,
}
CONTRACT = cast("PromptContract", SimpleNamespace(end_token="</s>", text=SimpleNamespace(sources=0)))
WITH_SOURCES = cast("PromptContract", SimpleNamespace(end_token="</s>", text=SimpleNamespace(sources=3)))


@pytest.mark.parametrize("kind", ["hub", "folder", "gguf"])
@pytest.mark.parametrize("name", ["a\n---\nlicense: mit\n# Owned", "<script>x</script> `b` {{ 1 }} [c](http://d)"])
def test_merged_card_with_hostile_names_escapes_them(name: str, kind: str) -> None:
    card = merged_card({**SUMMARY, "data": {**SUMMARY["data"], "source": name}}, name, kind, CONTRACT)
    _, front, page = card.split("---\n", 2)
    assert yaml.safe_load(front).get("base_model") == (name if kind == "hub" else None)
    assert "license" not in yaml.safe_load(front)
    assert sum(line.startswith("# ") for line in page.split("\n")) == 1
    assert "\n---\n" not in page
    assert "<script>" not in page
    assert "](http" not in page.replace("\\]", "")


def test_merged_card_says_that_other_programs_show_no_sources() -> None:
    said = "It was tuned to answer from 3 passages before the question and to cite them."
    assert f"not on conversations.\n\n{said} Asked as below" in merged_card(SUMMARY, "base", "folder", WITH_SOURCES)
    assert "passages" not in merged_card(SUMMARY, "base", "folder", CONTRACT)


def test_merged_card_says_what_was_measured() -> None:
    figures = {"answer_nll": 1.23456, "mean_kl": 0.000123, "max_abs_logit_difference": 0.5, "top1_agreement": 0.99}
    verification = {
        "questions": 8,
        "answer_tokens": 512,
        "answer_nll": {"adapter": 1.2},
        "candidates": {"nf4": figures},
        "noise_floor": figures,
    }
    card = merged_card({**SUMMARY, "verification": verification}, "/home/ann/models/base", "folder", CONTRACT)
    assert "| base + adapter | 1.2000 |  |  |  |" in card
    assert "| merged into nf4 | 1.2346 | 1.23e-04 | 0.500 | 0.9900 |" in card
    assert "| noise floor: base + adapter in bfloat16 | 1.2346 | 1.23e-04 | 0.500 | 0.9900 |" in card
    assert "# base, tuned on medical questions and answers" in card
    assert "/home" not in card
