import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from medqa_cli.config.load import MAX_PROBLEMS, Loaded, load
from medqa_cli.config.problems import check_together, suggest
from medqa_cli.config.schema import KEYS, SECTIONS, UNSUPPORTED, Config, DataConfig, Optimizer, Scheduler, TrainConfig
from medqa_cli.errors import ConfigError
from medqa_cli.resources import load_yaml


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes, *overrides: str) -> Loaded:
    Path("c.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return load(Path("c.yaml"), overrides)


def problems(text: str | bytes, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, *overrides)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_without_a_file_every_value_is_a_default() -> None:
    loaded = load(None)
    assert loaded.config == Config()
    assert loaded.path is None
    assert set(loaded.sources) == set(KEYS)
    assert set(loaded.sources.values()) == {"default"}


def test_without_a_path_medqa_yaml_of_the_current_folder_is_read() -> None:
    Path("medqa.yaml").write_text("seed: 7\n")
    loaded = load(None)
    assert (loaded.config.seed, loaded.sources["seed"], loaded.path) == (7, "medqa.yaml:1", Path("medqa.yaml"))


def test_a_dangling_medqa_yaml_is_not_silently_ignored() -> None:
    Path("medqa.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(ConfigError, match=r"medqa\.yaml: there is no such file"):
        load(None)


def test_override_over_file_over_default_and_the_last_override_wins() -> None:
    loaded = read("seed: 1\ntrain:\n  optim: sgd\n", "seed=2", "seed=3")
    assert (loaded.config.seed, loaded.config.train.optim, loaded.config.lora.r) == (3, "sgd", 64)
    assert [loaded.sources[key] for key in ("seed", "train.optim", "lora.r")] == ["--set", "c.yaml:3", "default"]


@pytest.mark.parametrize(
    ("text", "dotted", "expected"),
    [
        ("train: {learning_rate: 2e-4}", "train.learning_rate", 2e-4),
        ("train: {learning_rate: 1E-5}", "train.learning_rate", 1e-5),
        ("train: {learning_rate: .5}", "train.learning_rate", 0.5),
        ("train: {num_train_epochs: 3}", "train.num_train_epochs", 3.0),
        ("seed: 1_000", "seed", 1000),
        ("train: {gradient_checkpointing: auto}", "train.gradient_checkpointing", "auto"),
        ("train: {gradient_checkpointing: off}", "train.gradient_checkpointing", False),
        ("model: {double_quantization: yes}", "model.double_quantization", True),
        ("train: {max_tokens_per_forward: 4096}", "train.max_tokens_per_forward", 4096),
        ("train: {eval_steps: ~}", "train.eval_steps", None),
        ("lora: {target_modules: all-linear}", "lora.target_modules", "all-linear"),
        ("lora: {target_modules: [q_proj, v_proj]}", "lora.target_modules", ("q_proj", "v_proj")),
        ("data: {cleaning: {whitespace: no}}", "data.cleaning", {"whitespace": False}),
        ("model: {revision: 017}", "model.revision", "017"),
        ("model: {revision: 2024-01-01}", "model.revision", "2024-01-01"),
        ("model: {revision: 0x1F}", "model.revision", "0x1F"),
        ("model: {revision: 'None'}", "model.revision", "None"),
        ("prompt: {system: ''}", "prompt.system", ""),
        ("prompt: {system: null}", "prompt.system", None),
        ("prompt: {template: my/prompt}", "prompt.template", "my/prompt"),
        ("prompt: {template: x.j2}", "prompt.template", "x.j2"),
        ("data: {near_duplicate_threshold: 0.8}", "data.near_duplicate_threshold", 0.8),
        ("run_dir: &a out\ndata: {dir: *a}", "data.dir", "out"),
        ("seed: 5\ntrain:\n  # all commented out\n", "seed", 5),
    ],
)
def test_load_of_one_value_returns_it_with_its_type(text: str, dotted: str, expected: Any) -> None:
    value = read(text).config
    for name in dotted.split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train:\n  lora_alhpa: 3", "c.yaml:2: unknown key train.lora_alhpa; did you mean 'lora.lora_alpha'?"),
        ("trian:\n  optim: sgd", "c.yaml:1: unknown section trian; did you mean 'train'?"),
        ("learning_rate: 3", "c.yaml:1: unknown key learning_rate; did you mean 'train.learning_rate'?"),
        ("learning-rate: 3", "c.yaml:1: unknown key learning-rate; did you mean 'train.learning_rate'?"),
        ("train: {lora: {r: 3}}", "c.yaml:1: unknown key train.lora; did you mean 'lora'?"),
        ("train: {max_length: 3}", "c.yaml:1: unknown key train.max_length; did you mean 'model.max_length'?"),
        (
            "train: {batch_size: 3}",
            "c.yaml:1: unknown key train.batch_size; did you mean 'train.per_device_train_batch_size'?",
        ),
        ("lora: {x: 3}", "c.yaml:1: unknown key lora.x"),
        (
            "train.optim: sgd",
            "c.yaml:1: unknown key train.optim; write optim on a line of its own below train:",
        ),
        ("seed: 1\nseed: 2", "c.yaml:2: seed is set twice (first on line 1)"),
        ("lora:\n  r: 1\n\n  r: 2", "c.yaml:4: lora.r is set twice (first on line 2)"),
        ("lora: {r: 1}\nlora: {bias: all}", "c.yaml:2: lora is set twice (first on line 1)"),
        ("data:\n  cleaning: {a: no,\n    a: yes}", "c.yaml:3: data.cleaning.a is set twice (first on line 2)"),
        ("seed: three", 'c.yaml:1: seed must be a whole number, got "three"'),
        ("seed: true", "c.yaml:1: seed must be a whole number, got true"),
        ("seed: '3'", 'c.yaml:1: seed must be a whole number, got "3"; drop the quotes'),
        ("seed: 8.0", "c.yaml:1: seed must be a whole number, got 8.0; write 8"),
        ("seed: 8.5", "c.yaml:1: seed must be a whole number, got 8.5"),
        ("seed:", "c.yaml:1: seed must be a whole number, got nothing"),
        ("seed: 0x1F", 'c.yaml:1: seed must be a whole number, got "0x1F"'),
        ("seed: [1]", "c.yaml:1: seed must be a whole number, got a list"),
        ("seed: !!python/object:os.system 3", "c.yaml:1: seed has the YAML tag !!python/object:os.system; "
         "remove it, only plain values are read"),
        ("seed: !!int three", 'c.yaml:1: seed must be a whole number, got three'),
        ("seed: -1", "c.yaml:1: seed must be at least 0 and at most 4294967295, got -1"),
        ("seed: " + "9" * 5000, "c.yaml:1: seed must be a whole number, got " + "9" * 60 + "…"),
        ("train: {weight_decay: " + "9" * 400 + "}",
         "c.yaml:1: train.weight_decay must be a finite number, got " + "9" * 60 + "…"),
        ("train: {weight_decay: .inf}", "c.yaml:1: train.weight_decay must be a finite number, got .inf"),
        ("train: {weight_decay: .nan}", "c.yaml:1: train.weight_decay must be a finite number, got .nan"),
        ("train: {learning_rate: '1e-4'}",
         'c.yaml:1: train.learning_rate must be a number, got "1e-4"; drop the quotes'),
        ("train: {learning_rate: 0}", "c.yaml:1: train.learning_rate must be above 0, got 0"),
        ("generate: {top_p: 1.5}", "c.yaml:1: generate.top_p must be above 0 and at most 1, got 1.5"),
        ("lora: {lora_dropout: 1}", "c.yaml:1: lora.lora_dropout must be at least 0 and below 1, got 1"),
        ("train: {max_tokens_per_forward: 0}",
         "c.yaml:1: train.max_tokens_per_forward must be auto or at least 1, got 0"),
        ("train: {max_tokens_per_forward: atuo}",
         'c.yaml:1: train.max_tokens_per_forward must be auto or a whole number, got "atuo"; did you mean \'auto\'?'),
        ("train: {gradient_checkpointing: 1}",
         "c.yaml:1: train.gradient_checkpointing must be auto, true or false, got 1"),
        ("model: {double_quantization: 'true'}",
         'c.yaml:1: model.double_quantization must be true or false, got "true"; drop the quotes'),
        ("model: {quantization: nf}",
         'c.yaml:1: model.quantization must be one of nf4, fp4, int8, none, got "nf"; did you mean \'nf4\'?'),
        ("model: {quantization: None}",
         'c.yaml:1: model.quantization must be one of nf4, fp4, int8, none, got "None"; did you mean \'none\'?'),
        ("model: {quantization: ~}",
         "c.yaml:1: model.quantization must be one of nf4, fp4, int8, none, got null; write the word none"),
        ("model: {quantization: off}", "c.yaml:1: model.quantization must be one of nf4, fp4, int8, none, got off, "
         "which YAML reads as false; write the word none"),
        ("train: {report_to: null}",
         "c.yaml:1: train.report_to must be one of none, tensorboard, wandb, mlflow, trackio, "
         "got null; write the word none"),
        ("model: {revision: 1234567}", "c.yaml:1: model.revision must be text or null, got 1234567; put it in quotes"),
        ("model: {revision: 12e4567}", "c.yaml:1: model.revision must be text or null, got 12e4567; put it in quotes"),
        ("model: {revision: None}", "c.yaml:1: model.revision is the word None, not null; write null for no value, "
         'or "None" in quotes for the word'),
        ("train: {eval_steps: none}",
         'c.yaml:1: train.eval_steps must be auto, a whole number or null, got "none"; write null for no value'),
        ("run_dir: ''", "c.yaml:1: run_dir must not be empty"),
        ("model: {revision: ' '}", "c.yaml:1: model.revision must not be empty; write null for no value"),
        ('run_dir: "a\\0"', 'c.yaml:1: run_dir holds a character that no file can hold, got "a\\u0000"'),
        ('run_dir: "\\ud800"', 'c.yaml:1: run_dir holds a character that no file can hold, got "\\ud800"'),
        ("prompt: {system: {a: b}}",
         "c.yaml:1: prompt.system must be text or null, got a mapping; put the text in quotes"),
        ("lora: {target_modules: q_proj}", "c.yaml:1: lora.target_modules must be auto, all-linear or a list of names, "
         'got "q_proj"; write [q_proj]'),
        ("lora: {target_modules: []}", "c.yaml:1: lora.target_modules must not be an empty list"),
        ("lora:\n  target_modules:\n    - q\n    - 3",
         "c.yaml:4: lora.target_modules[1] must be text, got 3; put it in quotes"),
        ("lora:\n  target_modules:\n    - q\n    - q",
         "c.yaml:4: lora.target_modules[1] repeats q, which the list holds already"),
        ("lora: {target_modules: &a [*a]}", "c.yaml:1: lora.target_modules[0] must be text, got a list"),
        ("eval: {metrics: nll}",
         "c.yaml:1: eval.metrics must be all or a list of one of nll, bits_per_byte, rouge1, rouge2, rougeL, chrf, "
         "bleu, topic_coverage, reference_swap_margin, seq_rep_4, loop_rate, finished_rate, length_ratio, "
         "prompt_echo_rate, citation_precision, citation_recall, supported_share, decline_rate, "
         'memorized_rate, extracted_identifiers, exposure, got "nll"; write [nll]'),
        ("data: {cleaning: {whitespace: 3}}", "c.yaml:1: data.cleaning.whitespace must be true or false, got 3"),
        ("eval:\n  multiple_choice:\n    - {name: a, pth: b, path: c}",
         "c.yaml:3: unknown key eval.multiple_choice[0].pth; did you mean 'path'?"),
        ("eval:\n  multiple_choice:\n    - {name: a}", "c.yaml:3: eval.multiple_choice[0] lacks the key path"),
        ("train: 3", "c.yaml:1: train is a section: it must hold keys such as num_train_epochs:, got 3"),
        ("train: [3]", "c.yaml:1: train is a section: it must hold keys such as num_train_epochs:, got a list"),
        ("train:\n  <<: {optim: sgd}", "c.yaml:2: train.<< (a YAML merge key) is not supported; write the keys out"),
        ("3: 4", "c.yaml:1: a key must be text, got 3 in the top level"),
        ("train: {[a]: 4}", "c.yaml:1: a key must be text, got a list in train"),
        ("- a", "c.yaml:1: the file must hold sections such as model: and train:, got a list"),
        ("hello", 'c.yaml:1: the file must hold sections such as model: and train:, got "hello"'),
        ("train: {max_steps: 0}",
         "c.yaml:1: train.max_steps must be -1 or at least 1, got 0"),
        ("train:\n  eval_steps: null\n  early_stopping_patience: 2",
         "c.yaml:3: train.early_stopping_patience needs train.eval_steps; set how often to evaluate on the validation "
         "split"),
        ("train: {eval_steps: null, lr_scheduler_type: reduce_lr_on_plateau}",
         "c.yaml:1: train.lr_scheduler_type reduce_lr_on_plateau needs train.eval_steps; it follows the validation "
         "loss"),
        ("data: {turns: all}\nprompt: {sources: 3}",
         "c.yaml:1: data.turns all and prompt.sources 3 do not go together: no sources are searched for what follows "
         "on earlier turns; set prompt.sources to 0, or data.turns to first"),
        ("data: {context_column: case}\nprompt: {sources: 3}",
         "c.yaml:1: data.context_column and prompt.sources 3 do not go together: both stand before the question; set "
         "prompt.sources to 0, or data.context_column to null"),
        ("data: {encoding: cp1215}", "c.yaml:1: data.encoding must be an encoding that Python knows, e.g. utf-8, "
                                     'cp1251, gb18030 or shift_jis, got "cp1215"; did you mean \'cp1125\'?'),
        ("data: {encoding: punycode}", "c.yaml:1: data.encoding must be an encoding that Python knows, e.g. utf-8, "
                                       'cp1251, gb18030 or shift_jis, got "punycode"'),
        ("train: {lr_scheduler_type: warmup_stable_decay}", "c.yaml:1: train.lr_scheduler_type warmup_stable_decay "
         "needs further arguments, which medqa has no key for; choose another"),
        ("train: {optim: galore_adamw}",
         "c.yaml:1: train.optim galore_adamw needs optim_target_modules, which medqa has "
         "no key for; choose another"),
        ("train: {optim: schedule_free_adamw}",
         "c.yaml:1: train.optim schedule_free_adamw must be told when the model is evaluated or saved, which medqa "
         "does not do; choose another"),
        ("train: {report_to: wanbd}", "c.yaml:1: train.report_to must be one of none, tensorboard, wandb, mlflow, "
         'trackio, got "wanbd"; did you mean \'wandb\'?'),
        ("prompt: {template: llama}",
         "c.yaml:1: prompt.template must be one of llama2, chat, alpaca, plain or the path "
         'of a Jinja file (.jinja, .jinja2, .j2, .txt), got "llama"; did you mean \'llama2\'?'),
        # The key of the pair that the file sets is the one that is pointed at.
        ("seed: 1\ndata:\n  test_fraction: 0.97", "c.yaml:3: data.validation_fraction and data.test_fraction must be "
         "below 1 together, got 0.05 and 0.97; nothing would be left to train on"),
    ],
)  # fmt: skip
def test_load_with_one_problem_reports_line_key_expectation_and_advice(text: str, expected: Any) -> None:
    assert problems(text) == [expected]


def test_load_with_misspelled_optimizer_suggests_the_name() -> None:
    (found,) = problems("train: {optim: adamw_troch}")
    assert found.startswith("c.yaml:1: train.optim must be one of adamw_torch, adamw_torch_fused, ")
    assert found.endswith(", got \"adamw_troch\"; did you mean 'adamw_torch'?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.yaml: is empty"),
        ("# only a comment\n", "c.yaml: is empty"),
        ("---\n", "c.yaml: is empty"),
        ("{}", "c.yaml: is empty"),
        ("seed: 1\n---\nseed: 2\n", "c.yaml:2:1: a second document begins here (---); keep one document"),
        ("train:\n\tseed: 1\n", "c.yaml:2:1: not valid YAML: while scanning for the next token, found character '\\t' "
         "that cannot start any token; indent with spaces, YAML allows no tabs"),
        ("a: b: c", 'c.yaml:1:5: not valid YAML: mapping values are not allowed here; check the indentation, and put a '
         'text that holds ": " in quotes'),
        ("run_dir: @x", "c.yaml:1:10: not valid YAML: while scanning for the next token, found character '@' that "
         "cannot start any token; put the text in quotes"),
        ("run_dir: *x",
         "c.yaml:1:10: not valid YAML: found undefined alias 'x'; a text that starts with * needs quotes"),
        (b"seed: 1\nrun_dir: \xff", "c.yaml:2: is not UTF-8 text (byte 0xff)"),
        (b"seed: 1\nrun_dir: \x00", "c.yaml:2: holds the control character U+0000; remove it"),
        (b"#" * 1_000_001, "c.yaml: is larger than 1,000,000 bytes, so it is not a medqa configuration"),
        ("seed: " + "[" * 5000, "c.yaml: is nested too deeply; the configuration has two levels"),
    ],
)  # fmt: skip
def test_load_of_unreadable_yaml_reports_the_place(text: str, expected: Any) -> None:
    assert problems(text) == [expected]


def test_an_unreadable_file_does_not_hide_wrong_overrides() -> None:
    assert problems("[", "lora.rr=3")[1:] == ["--set lora.rr=3: unknown key lora.rr; did you mean 'lora.r'?"]


def test_empty_file_says_what_it_must_hold() -> None:
    with pytest.raises(ConfigError) as caught:
        read("")
    assert "name_or_path" in caught.value.hint


def test_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    loaded = read(b"\xef\xbb\xbfseed: 3\r\nlora:\r\n  r: 4\r\n")
    assert (loaded.config.seed, loaded.config.lora.r, loaded.sources["lora.r"]) == (3, 4, "c.yaml:3")


def test_load_of_a_missing_file_or_a_folder_reports_it() -> None:
    with pytest.raises(ConfigError, match=r"^no\.yaml: there is no such file$") as caught:
        load(Path("no.yaml"))
    assert "medqa config init --out no.yaml" in caught.value.hint
    Path("d").mkdir()
    with pytest.raises(ConfigError, match=r"^d: is a folder, expected a YAML file$"):
        load(Path("d"))


def test_all_problems_are_sorted_by_line_with_overrides_last() -> None:
    text = "data: {validation_fraction: 0.5, test_fraction: 0.5}\nlora: {rr: 3}\ntrain: {max_steps: 0}\nseed: x\n"
    lines = [line.partition(": ")[0] for line in problems(text, "seed=y")]
    assert lines == ["c.yaml:1", "c.yaml:2", "c.yaml:3", "c.yaml:4", "--set seed=y"]


def test_a_misspelt_section_is_reported_once_and_its_keys_are_checked() -> None:
    assert problems("modle:\n  name_or_path: 3\n  max_lenght: 9\n") == [
        "c.yaml:1: unknown section modle; did you mean 'model'?",
        "c.yaml:2: model.name_or_path must be text or null, got 3; put it in quotes",
        "c.yaml:3: unknown key model.max_lenght; did you mean 'model.max_length'?",
    ]


def test_aliases_that_multiply_values_are_refused_before_they_are_validated() -> None:
    wide = f"a: &a {{{', '.join(f'k{i}: 1' for i in range(3000))}}}\n"
    (found,) = problems(f"{wide}eval: {{multiple_choice: [{'*a, ' * 900}]}}")
    assert found == "c.yaml: holds more than 100,000 values, so it is not a medqa configuration"


@pytest.mark.parametrize(
    "text",
    [
        "data: {source: {constrained-str: 3}}",
        "data: {source: {str: 3}}",
        "data: {source: [{'tuple[constrained-str, ...]': 3}]}",
        "lora: {target_modules: {0: 3}}",
        "run_dir: {a: {b: {c: {d: e}}}}",
    ],
)
def test_a_mapping_named_like_a_type_of_pydantic_is_reported_as_a_mapping(text: str) -> None:
    (found,) = problems(text)
    assert ", got a mapping" in found


def test_the_keys_of_a_section_that_is_set_twice_are_all_checked() -> None:
    assert problems("train: {optim: sgd}\ntrain: {optim: adafactor, foo: 3}") == [
        "c.yaml:2: train is set twice (first on line 1)",
        "c.yaml:2: unknown key train.foo",
    ]


def test_what_is_wrong_inside_of_a_value_of_the_wrong_type_is_not_reported() -> None:
    assert problems("seed: [x, x]") == ["c.yaml:1: seed must be a whole number, got a list"]


def test_a_wrong_value_in_the_file_is_reported_although_an_override_replaces_it() -> None:
    assert problems("seed: x", "seed=3") == ['c.yaml:1: seed must be a whole number, got "x"']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "trian: {save_steps: 0}\ntrain: 3",
            "c.yaml:2: train is a section: it must hold keys such as num_train_epochs:, got 3",
        ),
        ("trian: {save_steps: 0}\ntrain:", "c.yaml:1: train.save_steps must be at least 1, got 0"),
        ("train:\ntrian: {save_steps: 0}", "c.yaml:2: train.save_steps must be at least 1, got 0"),
        ("trian: {save_steps: 5}\ntrain: {save_steps: 0}", "c.yaml:2: train.save_steps must be at least 1, got 0"),
        (
            "trian: {optim: !foo x}",
            "c.yaml:1: trian.optim has the YAML tag !foo; remove it, only plain values are read",
        ),
    ],
)
def test_a_misspelled_section_beside_the_right_one_is_read_with_it(text: str, expected: Any) -> None:
    first, second = problems(text)
    assert first.endswith(": unknown section trian; did you mean 'train'?")
    assert second == expected


@pytest.mark.parametrize("text", ["foo:", "foo: ~", "train: {foo: null}"])
def test_an_unknown_key_without_a_value_is_refused(text: str) -> None:
    (found,) = problems(text)
    assert "unknown key" in found


@pytest.mark.parametrize("other", ["eval_steps: x", "eval_stpes: null"])
def test_no_follow_up_problem_from_a_value_that_could_not_be_read(other: str) -> None:
    (found,) = problems(f"train: {{early_stopping_patience: 2, {other}}}")
    assert "early_stopping_patience" not in found


def test_a_file_of_another_program_stops_early() -> None:
    assert len(problems("".join(f"k{i}: 1\n" for i in range(5000)))) == MAX_PROBLEMS


def test_an_absurdly_long_list_is_refused_at_once() -> None:
    text = f"lora: {{target_modules: [{', '.join(f'm{i}' for i in range(1001))}]}}"
    assert problems(text) == ["c.yaml:1: lora.target_modules must hold at most 1000 entries, got 1001"]


def test_billion_laughs_are_not_expanded() -> None:
    # Behind an alias the line is that of the text which is wrong: a38, the first element of a39.
    levels = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    text = "\n".join([*levels, "lora: {target_modules: *a39}"])
    assert "c.yaml:39: lora.target_modules[0] must be text, got a list" in problems(text)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr=3", "unknown key train.lr; did you mean 'train.learning_rate'?"),
        ("modle.name_or_path=x", "unknown key modle.name_or_path; did you mean 'model.name_or_path'?"),
        ("learning_rate=3", "unknown key learning_rate; did you mean 'train.learning_rate'?"),
        ("seed", "must have the form section.key=value, e.g. train.learning_rate=1e-4"),
        ("=3", "must have the form section.key=value, e.g. train.learning_rate=1e-4"),
        ("train=3", "train is a section; set one of its keys, e.g. --set train.num_train_epochs=VALUE"),
        ("lora.r=", "lora.r must be a whole number, got nothing"),
        ("lora.r=0", "lora.r must be at least 1, got 0"),
        ("seed=#1", "seed: the value is only a YAML comment; put it in quotes"),
        (
            "data.cleaning.x=true",
            "unknown key data.cleaning.x; set data.cleaning as a whole, in YAML: --set 'data.cleaning=...'",
        ),
        ("prompt.system=a: b", "prompt.system must be text or null, got a mapping; put the text in quotes"),
        ("lora.target_modules=[q, 3]", "lora.target_modules[1] must be text, got 3; put it in quotes"),
        ("train.max_steps=0", "train.max_steps must be -1 or at least 1, got 0"),
        (
            "seed=a: b: c",
            "seed: not valid YAML: mapping values are not allowed here; check the indentation, and put a text that "
            'holds ": " in quotes',
        ),
    ],
)
def test_load_with_a_wrong_override_reports_it(override: str, expected: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [override])
    assert caught.value.problems == [f"--set {override}: {expected}"]


def test_overrides_split_at_the_first_equals_sign_and_empty_means_null_where_allowed() -> None:
    config = load(
        None, ["prompt.system='a=b'", "run_dir=x=y", " train.eval_steps =", "data.cleaning={a: false}"]
    ).config
    assert (config.prompt.system, config.run_dir, config.train.eval_steps) == ("a=b", "x=y", None)
    assert config.data.cleaning == {"a": False}


def _misspellings(name: str) -> set[str]:
    deleted = {name[:i] + name[i + 1 :] for i in range(len(name))}
    swapped = {name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)}
    return {word for word in deleted | swapped if word and word != name}


@pytest.mark.parametrize("dotted", [key for key in KEYS if key != "lora.r"])
def test_every_misspelling_of_a_key_suggests_the_key(dotted: str) -> None:
    section, _, name = dotted.rpartition(".")
    words = _misspellings(name)
    assert len(words) >= 3
    assert {word: suggest(section, word) for word in words} == dict.fromkeys(words, dotted)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_misspelling_of_a_section_suggests_the_section_and_its_keys(section: str) -> None:
    keys = [key.partition(".")[2] for key in KEYS if key.startswith(f"{section}.")]
    words = _misspellings(section)
    assert len(words) >= 3
    for word in words:
        assert suggest("", word, is_mapping=True) == section
        assert {name: suggest(word, name) for name in keys} == {name: f"{section}.{name}" for name in keys}


def test_names_of_other_tools_lead_to_keys_that_exist_and_hide_none() -> None:
    known_as = load_yaml("known_as")
    assert set(known_as.values()) <= set(KEYS)
    assert not set(known_as) & set(KEYS)


def _installed_names(module: str, enum: str) -> set[str]:
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("Transformers is not installed")
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / module).read_text(encoding="utf-8"))
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == enum]
    return {ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}


@pytest.mark.parametrize(
    ("key", "type_", "module", "enum"),
    [
        ("train.optim", Optimizer, "training_args.py", "OptimizerNames"),
        ("train.lr_scheduler_type", Scheduler, "trainer_utils.py", "SchedulerType"),
    ],
)
def test_names_equal_those_of_the_installed_transformers(key: str, type_: Any, module: str, enum: str) -> None:
    assert {*get_args(type_), *UNSUPPORTED[key]} == _installed_names(module, enum)


def test_check_together_of_a_config_built_in_code_names_the_keys() -> None:
    assert list(check_together(Config())) == []
    assert list(check_together(Config(data=DataConfig(validation_fraction=0.4, test_fraction=0.59)))) == []
    found = check_together(
        Config(train=TrainConfig(eval_steps=None, early_stopping_patience=2, lr_scheduler_type="greedy"))
    )
    assert [keys[0] for keys, _ in found] == ["train.early_stopping_patience", "train.lr_scheduler_type"]


def test_importing_the_reader_imports_neither_pydantic_nor_yaml_and_reading_nothing_heavier() -> None:
    code = (
        "import sys; from medqa_cli.config.load import load\n"
        "load(None); print(sorted({'pydantic', 'yaml'} & set(sys.modules)))\n"
        "load(None, ['seed=3']); import yaml; assert yaml.safe_load('a: 2e-4') == {'a': '2e-4'}\n"
        "print(sorted({'torch', 'transformers', 'rich', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "[]\n[]\n"


def test_the_home_folder_stands_for_a_tilde_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "medqa.yaml").write_text(
        "run_dir: ~/run\ndata: {source: [~/a.csv, b.csv], dir: ~/data}\n"
        "eval: {multiple_choice: [{name: x, path: ~/x.json}]}\nprompt: {system: ~/no path}\n"
    )
    config = load(tmp_path / "medqa.yaml", ["prompt.template=~/t.jinja"]).config
    assert config.run_dir == "/home/me/run"
    assert config.data.source == ("/home/me/a.csv", "b.csv")
    assert config.data.dir == "/home/me/data"
    assert config.eval.multiple_choice[0].path == "/home/me/x.json"
    assert config.prompt.template == "/home/me/t.jinja"
    assert config.prompt.system == "~/no path"
    # The model is found there as well; its name stays what the user wrote.
    assert load(tmp_path / "medqa.yaml", ["model.name_or_path=~/m"]).config.model.name_or_path == "~/m"
    assert load(tmp_path / "medqa.yaml", ["run_dir=~/other"]).config.run_dir == "/home/me/other"
