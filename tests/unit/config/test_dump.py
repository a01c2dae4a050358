import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from medqa_cli.config.dump import resolved_dict, resolved_yaml, written
from medqa_cli.config.json_schema import json_schema, schema_at
from medqa_cli.config.load import load
from medqa_cli.config.schema import KEYS, SECTIONS, Config, EvalConfig, MultipleChoiceSet
from medqa_cli.errors import ConfigError

AWKWARD = [
    "plain",
    "None",
    "null",
    "~",
    "yes",
    "off",
    "017",
    "1e5",
    "1:30",
    "2024-01-01",
    "0x1F",
    "# no comment",
    "a # b",
    "a: b",
    "- a",
    "'x'",
    '"',
    "a\\b",
    "two\nlines\n",
    "tab\t",
    " spaces ",
    "é ü 漢字 😀",
    "\u2028",
    "\x7f",
    "[a]",
    "{a: b}",
    "*x",
    "<<",
    "=",
    "",
    "x" * 300,
]


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def again(text: str) -> Config:
    Path("again.yaml").write_text(text, encoding="utf-8", newline="\n")
    return load(Path("again.yaml")).config


def test_defaults_round_trip() -> None:
    loaded = load(None)
    assert again(resolved_yaml(loaded)) == loaded.config == Config()


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_round_trips_here_and_in_any_yaml_reader(text: str) -> None:
    Path("medqa.yaml").write_text(
        json.dumps({"prompt": {"system": text}}, ensure_ascii=text.isascii()), encoding="utf-8"
    )
    loaded = load(None)
    assert loaded.config.prompt.system == text
    shown = resolved_yaml(loaded)
    assert again(shown) == loaded.config
    assert yaml.safe_load(shown)["prompt"]["system"] == text


@pytest.mark.parametrize(
    "override",
    [
        "train.learning_rate=1e-5",
        "train.weight_decay=1e20",
        "train.num_train_epochs=0.1",
        "lora.target_modules=['yes', '1', a b, 'c,d']",
        "data.cleaning={whitespace: false, 'off': true}",
        "train.max_tokens_per_forward=77",
        "train.gradient_checkpointing=auto",
        "prompt.system=",
        "model.revision='1234567'",
        "model.quantization=none",
        "seed=4294967295",
    ],
)
def test_values_round_trip_here_and_in_any_yaml_reader(override: str) -> None:
    loaded = load(None, [override])
    assert loaded.config != Config()
    shown = resolved_yaml(loaded)
    assert again(shown) == loaded.config
    assert yaml.safe_load(shown) == resolved_dict(loaded)["config"]


def test_each_value_carries_its_source_in_one_column() -> None:
    Path("my.yaml").write_text("lora:\n  r: 8\n")
    shown = resolved_yaml(load(Path("my.yaml"), ["seed=3"]))
    lines = [line for line in shown.splitlines() if line and not line.endswith(":")]
    assert len(lines) == len(KEYS)
    assert {line.index("# ") for line in lines} == {lines[0].index("# ")}
    assert re.search(r"^seed: 3 +# --set$", shown, re.M)
    assert re.search(r"^  r: 8 +# my\.yaml:2$", shown, re.M)
    assert re.search(r"^  bias: none +# default$", shown, re.M)


def test_a_long_value_does_not_push_the_other_comments_aside() -> None:
    lines = resolved_yaml(load(None, ["prompt.system=" + "x" * 200])).splitlines()
    assert lines[0] == resolved_yaml(load(None)).splitlines()[0]


def test_a_line_break_in_the_file_name_does_not_break_the_comment() -> None:
    Path("a\nb.yaml").write_text("seed: 3\n")
    loaded = load(Path("a\nb.yaml"))
    assert "# a?b.yaml:1" in resolved_yaml(loaded)
    assert again(resolved_yaml(loaded)) == loaded.config


def test_multiple_choice_sets_are_written_as_mappings() -> None:
    sets = EvalConfig(multiple_choice=(MultipleChoiceSet("a", "b: c"),)).multiple_choice
    assert yaml.safe_load(written(sets)) == [{"name": "a", "path": "b: c"}]


def test_resolved_dict_is_json_and_complete() -> None:
    shown = resolved_dict(load(None, ["lora.target_modules=[q, v]"]))
    assert json.loads(json.dumps(shown)) == shown
    assert shown["config"]["lora"]["target_modules"] == ["q", "v"]
    assert shown["sources"]["lora.target_modules"] == "--set"
    assert set(shown["sources"]) == set(KEYS)


def test_schema_is_valid_describes_every_key_and_accepts_the_defaults() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    for section in SECTIONS:
        assert list(schema_at((section,))["properties"]) == [
            key.partition(".")[2] for key in KEYS if key.startswith(f"{section}.")
        ]
    config = resolved_dict(load(None))["config"]
    for dotted, key in KEYS.items():
        section, _, name = dotted.rpartition(".")
        found = schema_at(tuple(dotted.split(".")))
        assert found["description"] == key.metadata["description"]
        assert found["default"] == (config[section] if section else config)[name]
    jsonschema.validate(resolved_dict(load(None))["config"], schema)


GOOD = [
    "model: {name_or_path: a/b, quantization: none}",
    "train:\nseed: 3",
    "train: {learning_rate: 0.5, gradient_checkpointing: auto, max_tokens_per_forward: 5, num_train_epochs: 3}",
    "train: {early_stopping_patience: 2, eval_steps: 5}",
    "train: {early_stopping_patience: 2}",
    "train: {early_stopping_patience: null, eval_steps: null}",
    "train: {eval_steps: auto, lr_scheduler_type: greedy}",
    "train: {lr_scheduler_type: reduce_lr_on_plateau, eval_steps: 5}",
    "train: {max_steps: -1}",
    "lora: {target_modules: [q_proj], lora_alpha: 3}",
    "lora: {target_modules: all-linear}",
    "prompt: {template: x.jinja, system: ''}",
    "prompt: {template: dir/x}",
    "prompt: {template: chat, system: null}",
    "data: {cleaning: {a: true}, max_rows: null, near_duplicate_threshold: 0.8}",
    "eval: {metrics: [nll], multiple_choice: []}",
    "eval: {metrics: [nll, rougeL, loop_rate], multiple_choice: [{name: a, path: b}]}",
]
BAD = [
    "{}",
    "sead: 3",
    "trian: {optim: sgd}",
    "train: {lr: 3}",
    "train: 3",
    "seed: -1",
    "seed: '3'",
    "seed: true",
    "seed: 8.5",
    "train: {learning_rate: 0}",
    "train: {learning_rate: '0.5'}",
    "train: {max_steps: 0}",
    "train: {max_steps: -2}",
    "train: {early_stopping_patience: 2, eval_steps: null}",
    "train: {lr_scheduler_type: greedy, eval_steps: null}",
    "train: {eval_steps: often}",
    "train: {lr_scheduler_type: warmup_stable_decay}",
    "train: {optim: galore_adamw}",
    "train: {report_to: null}",
    "train: {gradient_checkpointing: maybe}",
    "train: {max_tokens_per_forward: 0}",
    "generate: {top_p: 1.5}",
    "lora: {lora_dropout: 1}",
    "lora: {target_modules: []}",
    "lora: {target_modules: [a, a]}",
    "lora: {target_modules: [3]}",
    "lora: {target_modules: q_proj}",
    "model: {quantization: null}",
    "model: {revision: 3}",
    "run_dir: ''",
    "prompt: {template: llama}",
    "prompt: {template: .jinja}",
    "data: {cleaning: {a: 3}}",
    "eval: {metrics: [rouge]}",
    "eval: {multiple_choice: [{name: a, pth: b}]}",
]


@pytest.mark.parametrize("text", GOOD)
def test_schema_and_reader_accept(text: str) -> None:
    jsonschema.validate(yaml.safe_load(text), json_schema())
    again(text)


@pytest.mark.parametrize("text", BAD)
def test_schema_and_reader_refuse(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json_schema())
    with pytest.raises(ConfigError):
        again(text)
