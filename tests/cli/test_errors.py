"""Each wrong use gives one clear message on stderr, nothing on stdout, the right exit code, and no traceback."""

import errno
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import ROWS, Outcome, fails, run_in, write_csv, write_workspace
from medqa_cli.cli.program import ending_with_a_message
from medqa_cli.errors import InputError, MedqaError

Medqa = Callable[..., Outcome]


@pytest.fixture
def workspace(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a spreadsheet and a configuration."""
    write_workspace(tmp_path, tiny_model_dir)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_workspace(folder, tiny_model_dir)
    run_in(folder, "convert", "qa.csv")
    run_in(folder, "train")
    return folder


@pytest.fixture
def trained(trained_once: Path, workspace: Path) -> Path:
    """The current folder after ``convert`` and ``train``; a copy that a test may damage."""
    shutil.copytree(trained_once, workspace, dirs_exist_ok=True)
    return workspace


THREE_WAYS = ("three ways to get a model", "hub id", "a folder with config.json", "a .gguf file")


# Commands in the wrong order


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], ["nothing has been converted yet", "medqa convert FILE"]),
        (["eval"], ["nothing has been converted yet", "medqa convert FILE"]),
        (["merge"], ["nothing has been trained there yet", "medqa train"]),
        (["ask", "What is gout?"], ["nothing has been trained there yet", "medqa train"]),
        (["ask", "What is gout?", "--model", "merged"], ["no merged model", "medqa merge"]),
        (["convert"], ["no source", "medqa convert FILE"]),
    ],
)
def test_a_command_before_its_turn(workspace: Path, medqa: Medqa, arguments: list[str], said: list[str]) -> None:
    fails(medqa(*arguments), 2, *said)


@pytest.mark.parametrize("command", [["train"], ["eval"], ["ask", "What is gout?"]])
def test_a_command_in_a_folder_where_nothing_was_done(
    tmp_path: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(medqa(*command), 2, "start with: medqa config init", "go to the folder where you did")


def test_a_config_of_another_folder_does_not_bring_its_data(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained / "elsewhere").mkdir()
    monkeypatch.chdir(trained / "elsewhere")
    fails(medqa("train", "-c", "../medqa.yaml"), 2, "nothing has been converted yet", "../data is there", "cd ..")
    fails(medqa("ask", "What is gout?", "-c", "../medqa.yaml"), 2, "../run/adapter is there", "cd ..")


def test_a_stopped_training_is_gone_on_with(trained: Path, medqa: Medqa) -> None:
    shutil.rmtree("run/adapter")
    fails(medqa("ask", "What is gout?"), 2, "nothing has been trained there yet", "medqa train --resume")


def test_the_way_to_the_data_is_what_the_config_takes(workspace: Path, medqa: Medqa) -> None:
    shutil.copy("medqa.yaml", "b.yaml")
    fails(medqa("train", "-c", "b.yaml"), 2, "nothing has been converted yet", "run: medqa convert FILE -c b.yaml")
    named = ("-c", "b.yaml", "--set", "data.source=qa.csv")
    fails(medqa("train", *named), 2, "nothing has been converted yet", "run: medqa convert -c b.yaml")


def test_eval_before_training(workspace: Path, medqa: Medqa) -> None:
    assert medqa("convert", "qa.csv").code == 0
    fails(medqa("eval"), 2, "nothing has been trained there yet", "medqa train")


# The configuration


def test_a_typo_in_the_config(workspace: Path, medqa: Medqa) -> None:
    (workspace / "medqa.yaml").write_text("seed: 1\ntrain:\n  learning_rat: 1e-4\n")
    fails(medqa("train"), 2, "medqa.yaml:3: unknown key train.learning_rat; did you mean 'train.learning_rate'?")


def test_several_problems_at_once_are_one_line_each(workspace: Path, medqa: Medqa) -> None:
    (workspace / "medqa.yaml").write_text("seed: x\ntrain:\n  learning_rate: -1\nlora: {r: 0}\n")
    outcome = medqa("config", "check")
    assert (outcome.code, outcome.out) == (2, "")
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in lines] == ["medqa.yaml:1", "medqa.yaml:3", "medqa.yaml:4"]
    assert len(outcome.err.splitlines()) == 4  # and one hint


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.yaml", None, "none.yaml: there is no such file"),
        ("empty.yaml", "", "empty.yaml: is empty"),
        ("comment.yaml", "# nothing yet\n", "comment.yaml: is empty"),
        ("broken.yaml", "train: [1,\n", "broken.yaml:"),
        (".", None, "folder"),
    ],
)
def test_an_unusable_config_file(workspace: Path, medqa: Medqa, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (workspace / name).write_text(content)
    fails(medqa("config", "check", "-c", name), 2, said)


def test_a_config_whose_name_no_file_can_have(workspace: Path, medqa: Medqa) -> None:
    name = "x" * 300 + ".yaml"
    fails(medqa("config", "check", "-c", name), 2, f"{name}: cannot be read: File name too long", "its permissions")


@pytest.mark.parametrize("override", ["train.learning_rat=1", "train.learning_rate=x", "seed"])
def test_a_wrong_override(workspace: Path, medqa: Medqa, override: str) -> None:
    fails(medqa("config", "check", "--set", override), 2, f"--set {override}: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["\u2013set", "seed=1"], ["'\u2013set' is no option", "EN DASH", "type: --set"]),
        (["\u2014\u2014set", "seed=1"], ["EM DASH", "type: --set"]),
        (["-\uff0dset=seed=1"], ["FULLWIDTH HYPHEN-MINUS", "type: --set=seed=1"]),
        (["--set", "seed", "=", "1"], ["--set seed = has a space before its '='", "type: --set seed=1"]),
        (["--set", "seed", "=1"], ["type: --set seed=1"]),
        (["--set", "seed", "="], ["type: --set seed=VALUE"]),
        (["--set", "seed\uff1d1"], ["must have the form section.key=value", "did you mean 'seed=1'?"]),
    ],
)
def test_signs_that_only_look_right_are_named(workspace: Path, medqa: Medqa, words: list[str], said: list[str]) -> None:
    fails(medqa("config", "check", *words), 2, *said)


@pytest.mark.parametrize(
    ("words", "option", "right"),
    [
        (["-c", "medqa.yaml", "ask", "What is gout?"], "-c", "medqa ask -c ..."),
        (["--set=seed=1", "config", "check"], "--set", "medqa config check --set ..."),
        (["--limit", "3"], "--limit", "medqa eval --limit ..."),
    ],
)
def test_an_option_before_the_command_is_named(
    workspace: Path, medqa: Medqa, words: list[str], option: str, right: str
) -> None:
    fails(medqa(*words), 2, f"{option} stands before the command", right)


def test_an_option_of_the_program_and_one_of_nobody_are_left_to_it(workspace: Path, medqa: Medqa) -> None:
    assert medqa("--version").code == 0
    unknown = medqa("--nothing")
    assert (unknown.code, "No such option: --nothing" in unknown.err) == (2, True)


def test_a_bug_is_shown_by_the_hook_of_the_console(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of ``console.mute``: on the other ranks of a training nothing else reaches the terminal."""

    def hook(*_: Any) -> None:
        return

    monkeypatch.setattr(sys, "excepthook", hook)
    assert medqa("--version").code == 0
    assert sys.excepthook is hook


def test_a_question_may_begin_with_a_dash(workspace: Path, medqa: Medqa) -> None:
    fails(medqa("ask", "\u2013 what is gout?"), 2, "no adapter")


# The spreadsheet


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.csv", b"first,second\na,b\n", ["no question column found", "'first', 'second'", "question_column=NAME"]),
        ("half.csv", b"question,body\na,b\n", ["no answer column found", "data.answer_column=NAME"]),
        ("empty.csv", b"", ["empty.csv is empty (0 bytes)"]),
        ("header.csv", b"question,answer\n", ["header.csv has no data rows"]),
        ("blank.csv", b"question,answer\n,\n,\n", ["none of its 2 rows can be used"]),
        ("qa.xls", b"question,answer\na,b\n", ["qa.xls cannot be read as a spreadsheet"]),
        ("qa.docx", b"question,answer\na,b\n", ["unknown format ('.docx')", ".csv", "export it as CSV"]),
        ("folder.csv", None, ["holds no XML documents and no tables"]),
    ],
)
def test_an_unusable_spreadsheet(
    workspace: Path, medqa: Medqa, name: str, content: bytes | None, said: list[str]
) -> None:
    if content is None:
        (workspace / name).mkdir()
    else:
        (workspace / name).write_bytes(content)
    fails(medqa("convert", name), 2, *said)
    assert not (workspace / "data").exists()


def test_a_missing_spreadsheet(workspace: Path, medqa: Medqa) -> None:
    fails(medqa("convert", "qa.cvs"), 2, "qa.cvs does not exist", "did you mean 'qa.csv'?")


def test_latin_1_is_read_as_it_was_meant(workspace: Path, medqa: Medqa) -> None:
    text = 'question,answer\n"What is Ménière\'s disease?","It affects the café owner\'s ear. Größe: 5 µm."\n'
    (workspace / "latin.csv").write_bytes(text.encode("latin-1"))
    outcome = medqa("convert", "latin.csv", "--set", "data.test_fraction=0", "--set", "data.validation_fraction=0")
    assert outcome.code == 0, outcome.err
    row = json.loads((workspace / "data" / "train.jsonl").read_text(encoding="utf-8"))
    assert row["question"] == "What is Ménière's disease?"
    assert row["answer"] == "It affects the café owner's ear. Größe: 5 µm."


def test_converting_over_another_source(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "other.csv", ROWS[:10])
    assert medqa("convert", "qa.csv").code == 0
    before = (workspace / "data" / "train.jsonl").read_bytes()
    fails(medqa("convert", "other.csv"), 2, "was made from another source, qa.csv", "--force")
    assert (workspace / "data" / "train.jsonl").read_bytes() == before
    assert medqa("convert", "other.csv", "--force").code == 0
    assert (workspace / "data" / "train.jsonl").read_bytes() != before


# Training


def test_training_over_a_training(trained: Path, medqa: Medqa) -> None:
    before = (trained / "run" / "adapter" / "adapter_model.safetensors").read_bytes()
    fails(medqa("train"), 2, "run already holds a training run", "--resume", "--restart", "run_dir=")
    assert (trained / "run" / "adapter" / "adapter_model.safetensors").read_bytes() == before


def test_resume_without_a_checkpoint(trained: Path, medqa: Medqa) -> None:
    hint = "start over with: medqa train --restart --set run_dir=new"  # and not the run that the config names
    fails(medqa("train", "--resume", "--set", "run_dir=new"), 2, "no checkpoint to resume from", hint)


def test_resume_and_restart(trained: Path, medqa: Medqa) -> None:
    fails(medqa("train", "--resume", "--restart"), 2, "--resume and --restart exclude each other")


def test_restart_that_cannot_start_keeps_what_there_is(trained: Path, medqa: Medqa) -> None:
    before = sorted(path for path in (trained / "run").rglob("*") if path.is_file())
    fails(medqa("train", "--restart", "--set", "model.name_or_path=./no-model"), 2, *THREE_WAYS)
    fails(medqa("train", "--restart", "--set", "lora.target_modules=[no_proj]"), 2, "lora.target_modules")
    fails(medqa("train", "--restart", "--set", "train.optim=grokadamw"), 2, "grokadamw", "train.optim")
    shutil.copytree(trained / "data", trained / "unvalidated")
    (trained / "unvalidated/validation.jsonl").write_text("", encoding="utf-8")
    follows = ("--set", "train.lr_scheduler_type=reduce_lr_on_plateau", "--set", "train.eval_steps=1")
    outcome = medqa("train", "--restart", "--set", "data.dir=unvalidated", *follows)
    fails(outcome, 2, "reduce_lr_on_plateau follows the validation loss", "data.validation_fraction")
    assert sorted(path for path in (trained / "run").rglob("*") if path.is_file()) == before
    assert medqa("ask", "What is gout?").code == 0


def test_restart_replaces_the_training(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--restart", "--json", "--set", "train.max_steps=1")
    assert json.loads(outcome.out)["global_step"] == 1
    assert [path.name for path in (trained / "run" / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert {json.loads(line)["step"] for line in (trained / "run" / "train.jsonl").open()} == {0, 1}


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_named_and_passed_over(trained: Path, medqa: Medqa, file: str) -> None:
    checkpoints = trained / "run" / "checkpoints"
    (checkpoints / "checkpoint-mine").mkdir()  # not ours, so not in the way
    shutil.copytree(checkpoints / "checkpoint-2", checkpoints / "checkpoint-10")
    truncate(checkpoints / "checkpoint-10" / file)
    outcome = medqa("train", "--resume", "--json", "--set", "train.max_steps=3")
    assert outcome.code == 0, outcome.err
    assert f"checkpoint-10 is damaged ({file})" in outcome.err
    assert json.loads(outcome.out)["global_step"] == 3


@pytest.mark.parametrize("place", ["qa.csv", "qa.csv/run"])
def test_a_run_folder_that_cannot_be_made(trained: Path, medqa: Medqa, place: str) -> None:
    fails(medqa("train", "--set", f"run_dir={place}"), 2, f"run_dir: cannot write {place}")


def test_an_optimizer_whose_package_is_not_installed(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.trainer_optimizer.is_torch_optimi_available", lambda: False, raising=False)
    fails(medqa("train", "--set", "run_dir=new", "--set", "train.optim=stable_adamw"), 2, "torch-optimi", "train.optim")


def test_an_optimizer_that_would_compute_other_steps(trained: Path, medqa: Medqa) -> None:
    for command in (("train",), ("train", "--plan"), ("config", "check")):
        fails(
            medqa(*command, "--set", "train.optim=lomo"), 2, "train.optim lomo updates weights during the backward pass"
        )
    assert not Path("new").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_tracker_whose_package_is_not_installed(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Said before anything is loaded, and without an "Exception ignored" of a callback that was half made."""
    find_spec = importlib.util.find_spec
    hidden = {"tensorboard", "tensorboardX", "wandb", "mlflow", "trackio"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *rest: None if n in hidden else find_spec(n, *rest))
    outcome = medqa("train", "--set", "run_dir=new", "--set", f"train.report_to={name}")
    fails(outcome, 2, f"train.report_to is {name}, whose package is not installed", f"pip install {name}")
    assert len(outcome.err.splitlines()) == 2
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("module", "hint"), [("wandb.errors.errors", "wandb login"), ("mlflow.exceptions", None), ("tensorboard", None)]
)
def test_a_tracker_that_fails(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, module: str, hint: str | None
) -> None:
    """W&B raises an error of its own where nobody is logged in; an error of anything else is not a tracker's."""
    name = module.partition(".")[0]
    error = type("UsageError", (Exception,), {"__module__": module})

    def fail(*_: Any, **__: Any) -> None:
        raise error("No API key configured.\nMore lines.")

    monkeypatch.setattr("medqa_cli.training.arguments.require_tracker", lambda name: None)
    monkeypatch.setattr("medqa_cli.training.trainer.MedqaTrainer.train", fail)
    with monkeypatch.context() as patch:
        patch.setattr("medqa_cli.training.arguments.set_up_trackers", lambda arguments, run_dir: None)
        patch.setattr("medqa_cli.training.trainer.get_reporting_integration_callbacks", lambda report_to: [])
        outcome = medqa("train", "--set", "run_dir=new", "--set", f"train.report_to={name}")
    fails(outcome, 2, f"train.report_to: {name} failed: No API key configured.", hint or "set train.report_to to none")
    assert "More lines" not in outcome.err
    with pytest.raises(error, match="No API key"):
        medqa("train", "--set", "run_dir=other")


def test_an_adapter_of_the_embedding_has_an_effect(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--json", "--set", "run_dir=new", "--set", "lora.target_modules=[embed_tokens]")
    assert outcome.code == 0, outcome.err


def test_target_modules_that_do_not_exist(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--set", "run_dir=new", "--set", "lora.target_modules=[no_proj]")
    fails(outcome, 2, "lora.target_modules", "no_proj")
    one_of_two = medqa("train", "--set", "run_dir=new", "--set", "lora.target_modules=[q_proj, v_prj]")
    fails(one_of_two, 2, "is called v_prj; did you mean 'v_proj'?", "its linear layers: down_proj, gate_proj")
    assert not (trained / "new" / "adapter").exists()


def test_max_length_without_room_for_an_answer(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--set", "run_dir=new", "--set", "model.max_length=8")
    fails(outcome, 1, "no supervised token", "model.max_length = 8", "raise model.max_length")
    assert not (trained / "new" / "adapter").exists()


def test_answers_that_are_cut_and_rows_without_room_for_one_are_told(trained: Path, medqa: Medqa) -> None:
    path = trained / "data" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["question"] = "What is gout? " * 100
    rows[1]["answer"] = "Gout is a disease. " * 100
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome = medqa("train", "--set", "run_dir=new")
    assert outcome.code == 0, outcome.err
    assert f"1 of {len(rows) - 1} answers do not fit model.max_length = 256: they are cut" in outcome.err
    assert "1 rows left out: their prompt alone fills model.max_length = 256" in outcome.err
    assert re.search(r"rows without room for an answer +1\n", outcome.out)


def test_a_training_whose_memory_cannot_be_predicted_runs(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs_numbers(model: Any, batch: Any) -> Any:
        return batch.targets.max().item()

    monkeypatch.setattr("medqa_cli.model.memory_profile.answer_token_losses", needs_numbers)
    outcome = medqa("train", "--set", "run_dir=new")
    assert outcome.code == 0, outcome.err
    assert "the size of a forward pass is the fastest, whether it fits or not" in outcome.err
    assert re.search(r"peak memory +\d", outcome.out)
    assert json.loads(Path("new/train.json").read_text())["predicted_peak_memory_bytes"] is None


def test_a_run_that_cannot_be_written_is_refused_before_anything_is_loaded(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((Path(path), mode))
        return False

    monkeypatch.setattr("medqa_cli.cli.app.os.access", access)
    monkeypatch.setattr("medqa_cli.training.run.train", lambda *_, **__: pytest.fail("the training began"))
    fails(medqa("train", "--set", "run_dir=new/deep"), 2, "run_dir: cannot write new/deep: Permission denied")
    assert asked == [(trained, os.W_OK | os.X_OK)]


def test_a_second_ctrl_c_stops_at_once(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medqa_cli.training.trainer.MedqaTrainer.train", interrupted)
    outcome = medqa("train", "--set", "run_dir=new")
    again = "start again with: medqa train --set run_dir=new"  # the same run
    fails(outcome, 130, "before the first checkpoint; nothing was saved", again)
    assert "warning: stopping at once" in outcome.err
    assert not Path("new/adapter").exists()


def test_what_was_saved_while_the_loss_rose_is_set_aside(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medqa_cli.training.divergence import DivergedError
    from medqa_cli.training.trainer import MedqaTrainer

    real = MedqaTrainer.train

    def train_and_diverge(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        raise DivergedError("the loss of step 4 is 9", 4, risen_since=3)

    monkeypatch.setattr(MedqaTrainer, "train", train_and_diverge)
    outcome = medqa("train", "--set", "run_dir=new", "--set", "train.save_steps=1")
    fails(outcome, 1, "the loss of step 4 is 9; the run was stopped and no adapter was saved", "go on from step 1")
    assert "risen-checkpoint-2 was saved when the loss was rising already; --resume does not go on" in outcome.err
    assert {path.name for path in Path("new/checkpoints").iterdir()} == {"checkpoint-1", "risen-checkpoint-2"}
    assert json.loads(Path("new/train.json").read_text())["status"] == "diverged"


def test_a_checkpoint_of_several_processes_is_gone_on_from_by_one(trained: Path, medqa: Medqa) -> None:
    checkpoint = trained / "run" / "checkpoints" / "checkpoint-2"
    manifest = checkpoint / "manifest.json"
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
    manifest.write_text(manifest.read_text().replace("rng_state.pth", "rng_state_0.pth"))
    outcome = medqa("train", "--resume", "--json", "--set", "train.max_steps=3")
    assert outcome.code == 0, outcome.err
    assert "checkpoint-2 was not saved by 1 process(es): the order of the data and the optimizer go on" in outcome.err
    assert json.loads(outcome.out)["global_step"] == 3


def test_curves_that_cannot_be_written_cost_no_adapter(trained: Path, medqa: Medqa) -> None:
    (trained / "new" / "loss.png").mkdir(parents=True)
    outcome = medqa("train", "--set", "run_dir=new")
    assert outcome.code == 0, outcome.err
    assert "new/loss.png could not be written: Is a directory" in outcome.err
    assert sorted(path.name for path in Path("new").iterdir() if "loss" in path.name) == ["loss.png"]
    assert Path("new/adapter/adapter_model.safetensors").is_file()


def test_a_warm_up_over_all_steps_is_that(trained: Path, medqa: Medqa) -> None:
    """Transformers would read 1.0 as one step."""
    settings = ("train.lr_scheduler_type=constant_with_warmup", "train.warmup_ratio=1.0", "train.max_steps=4")
    more = ("run_dir=new", "train.learning_rate=1e-4")
    outcome = medqa("train", *(part for setting in (*settings, *more) for part in ("--set", setting)))
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (trained / "new" / "train.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "loss" in line]
    assert rates == pytest.approx([0.0, 0.25e-4, 0.5e-4, 0.75e-4])


def test_an_adapter_without_effect_is_not_saved(trained: Path, medqa: Medqa) -> None:
    """The only step is a warm-up step, whose learning rate is 0."""
    schedule = ("train.lr_scheduler_type=constant_with_warmup", "train.warmup_ratio=0.5", "train.max_steps=1")
    outcome = medqa("train", "--set", "run_dir=new", *(part for key in schedule for part in ("--set", key)))
    fails(outcome, 1, "the adapter has no effect", "train.learning_rate", "no adapter was saved")
    assert json.loads((trained / "new" / "train.jsonl").read_text().splitlines()[1])["learning_rate"] == 0
    assert not (trained / "new" / "adapter").exists()


# Models


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("medqa-tests/there-is-no-such-model", "medqa-tests/there-is-no-such-model"),
        ("./no/such/folder", "./no/such/folder is neither a folder, a .gguf file nor a hub id"),
        ("empty", "the folder empty holds no config.json"),
        ("package:no_such_package/model.gguf", "the Python package 'no_such_package' is not installed"),
        ("package:medqa_cli/model.gguf", "the package medqa_cli ships no file 'model.gguf'"),
        ("no-such.gguf", "no file no-such.gguf"),
        ("garbage.gguf", "cannot read garbage.gguf as a GGUF model"),
    ],
)
@pytest.mark.parametrize("command", ["train", "ask", "convert"])
def test_a_model_that_is_not_there(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, command: str, name: str, said: str
) -> None:
    (trained / "empty").mkdir()
    (trained / "garbage.gguf").write_bytes(b"no model " * 100)
    monkeypatch.setenv("MEDQA_CACHE_DIR", str(trained / "cache"))
    arguments = {"train": [], "ask": ["What is gout?", "--model", "base"], "convert": ["qa.csv", "--out", "new"]}
    outcome = medqa(command, *arguments[command], "--set", "run_dir=new-run", "--set", f"model.name_or_path={name}")
    fails(outcome, 2, said, *THREE_WAYS)
    assert not (trained / "new").exists()
    assert [path for path in trained.glob("cache/models/*") if path.is_dir()] == []


def test_no_model_at_all(trained: Path, medqa: Medqa) -> None:
    fails(medqa("train", "--set", "run_dir=new", "--set", "model.name_or_path=null"), 2, "is not set", *THREE_WAYS)


def test_a_base_with_damaged_weights(trained: Path, medqa: Medqa, tiny_model_dir: Path) -> None:
    shutil.copytree(tiny_model_dir, trained / "base")
    truncate(trained / "base" / "model.safetensors")
    fails(medqa("ask", "Why?", "--model", "./base"), 2, "cannot load the model of base")


# What a run left behind, damaged


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "arguments", [["ask", "What is gout?"], ["eval"], ["merge"]], ids=lambda arguments: str(arguments[0])
)
def test_damaged_adapter_weights(trained: Path, medqa: Medqa, arguments: list[str]) -> None:
    truncate(trained / "run" / "adapter" / "adapter_model.safetensors")
    fails(medqa(*arguments), 2, "run/adapter/adapter_model.safetensors is damaged or cut short")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "run/adapter/adapter_config.json is damaged: Expecting value"),
        ("[]", "run/adapter/adapter_config.json is damaged: not an object"),
        ('{"peft_type": "LORA"}', "run/adapter/adapter_config.json: r is null, expected a number"),
        ('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}', "adapter_config.json is damaged: it names no base model"),
        (
            '{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": 5}',
            "run/adapter/adapter_config.json: base_model_name_or_path is 5, expected a name",
        ),
        ('{"peft_type": "IA3"}', 'is of type "IA3"; medqa knows LORA'),
    ],
)
def test_a_damaged_adapter_config(trained: Path, medqa: Medqa, content: str, said: str) -> None:
    (trained / "run" / "adapter" / "adapter_config.json").write_text(content)
    fails(medqa("ask", "What is gout?"), 2, said)


@pytest.mark.parametrize("content", ["", "[]", '{"format_version": 1}'])
def test_a_damaged_prompt_contract(trained: Path, medqa: Medqa, content: str) -> None:
    (trained / "run" / "adapter" / "prompt.json").write_text(content)
    fails(medqa("ask", "What is gout?"), 2, "run/adapter/prompt.json is damaged", "train again")


def test_a_damaged_tokenizer(trained: Path, medqa: Medqa) -> None:
    truncate(trained / "run" / "adapter" / "tokenizer.json")
    fails(medqa("ask", "What is gout?"), 2, "cannot load the tokenizer of run/adapter")


@pytest.mark.parametrize("damage", ['{"id": "1", "question": "cut', '{"id": "1"}', "[]", "\xff"])
def test_a_damaged_line_of_data(trained: Path, medqa: Medqa, damage: str) -> None:
    path = trained / "data" / "train.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage.encode("latin-1"), *lines[2:]]) + b"\n")
    fails(medqa("train", "--set", "run_dir=new"), 2, "data/train.jsonl:2: damaged line", "medqa convert")


def test_data_that_cannot_be_read(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("medqa_cli.training.resume.sha256_of_file", refuse)
        said = "data/train.jsonl cannot be read: Permission denied"
        fails(medqa("train", "--set", "run_dir=new"), 2, said, "medqa convert FILE")
    path = trained / "data" / "validation.jsonl"
    path.unlink()
    path.mkdir()
    said = "data/validation.jsonl cannot be read: Is a directory"
    fails(medqa("train", "--set", "run_dir=new"), 2, said, "medqa convert FILE")
    assert not Path("new").exists()


@pytest.mark.parametrize("report", ["cut off {", "{}", "[]"])
def test_a_damaged_report_of_the_data_costs_no_adapter(trained: Path, medqa: Medqa, report: str) -> None:
    (trained / "data" / "report.json").write_text(report)
    outcome = medqa("train", "--json", "--set", "run_dir=new")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["adapter_step"] == 2
    assert "rows after cleaning" in Path("run/adapter/README.md").read_text(encoding="utf-8")
    assert "rows after cleaning" not in Path("new/adapter/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["ask", "What is gout?"], ["eval"]], ids=["ask", "eval"])
def test_an_adapter_without_its_config_or_prompt(trained: Path, medqa: Medqa, arguments: list[str]) -> None:
    (trained / "run" / "adapter" / "prompt.json").unlink()
    fails(medqa(*arguments), 2, "run/adapter/prompt.json is missing", "was not made by medqa")
    (trained / "run" / "adapter" / "adapter_config.json").unlink()
    fails(medqa(*arguments), 2, "no adapter in run/adapter", "medqa train")


def test_another_base_in_the_config_than_the_adapters(trained: Path, medqa: Medqa, tiny_model_dir: Path) -> None:
    outcome = medqa("ask", "What is gout?", "--json", "--set", "model.name_or_path=other")
    assert outcome.code == 0, outcome.err
    assert f"the adapter was trained on {tiny_model_dir}, which is used; model.name_or_path is other" in outcome.err


# A disk that is full


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ROOM = ("not everything could be written: No space left on device", "make room, then give the same command again")


def test_a_full_disk_while_a_config_is_written(workspace: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(workspace.iterdir())
    monkeypatch.setattr(Path, "replace", full)
    fails(medqa("config", "init", "--out", "new.yaml"), 1, *ROOM)
    assert sorted(workspace.iterdir()) == before


def test_a_disk_that_is_full_before_the_first_byte_has_the_same_exit_code(
    workspace: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "mkstemp", full)
    fails(medqa("config", "init", "--out", "new.yaml"), 1, "cannot write new.yaml: No space left on device")


def test_a_full_disk_keeps_the_answers_and_the_measures_that_are_there(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, []

    def full_at_the_second(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(1)
        if len(calls) == 2:
            full()

    Path("questions.txt").write_text("What is gout?\nWhat is asthma?\nWhat is glaucoma?\n")
    ask = ("ask", "--file", "questions.txt", "--out", "answers.jsonl", "--set", "generate.batch_size=1")
    for command, going_on in ((ask, "resuming after"), (("eval",), "resuming an interrupted evaluation")):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_at_the_second)
            fails(medqa(*command), 1, *ROOM)
        assert not Path("answers.jsonl").exists() or command != ask
        again = medqa(*command)
        assert again.code == 0, again.err
        assert going_on in again.err
    assert len(Path("answers.jsonl").read_text(encoding="utf-8").splitlines()) == 3


# Memory that runs out


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines."),
        torch.AcceleratorError("CUDA error: out of memory\nMore lines."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["gpu", "CUDA itself", "cuBLAS", "cpu", "python"],
)
@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("medqa_cli.training.trainer.MedqaTrainer.train", ["train", "--set", "run_dir=new"]),
        ("accelerate.Accelerator.prepare", ["train", "--set", "run_dir=new"]),
        ("peft.PeftModel.from_pretrained", ["ask", "What is gout?"]),
        ("medqa_cli.evaluation.generation.score_answers", ["eval"]),
    ],
    ids=["step", "trainer", "adapter", "eval"],
)
def test_memory_that_runs_out(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, place: str, arguments: list[str], error: Exception
) -> None:
    def run_out(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(place, run_out)
    outcome = medqa(*arguments)
    fails(outcome, 1, "memory ran out", "lower train.max_tokens_per_forward, model.max_length, eval.batch_size")
    assert "More lines" not in outcome.err


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate`"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),  # Windows
        (RuntimeError("unable to mmap 8 bytes from file <model.safetensors>: Cannot allocate memory (12)"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ValueError("some library: std::bad_alloc"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(2, "No such file or directory"), False),
    ],
)
def test_which_errors_mean_that_memory_ran_out(error: Exception, is_memory: bool) -> None:
    @ending_with_a_message
    def directly() -> None:
        raise error

    @ending_with_a_message
    def told_as_another() -> None:
        raise InputError("cannot load the base: something") from error

    for command in (directly, told_as_another):
        with pytest.raises(Exception) as raised:  # noqa: PT011 -- which one it is, is what is tested
            command()
        assert raised.value.__class__ is MedqaError if is_memory else "memory" not in str(raised.value)


def test_likelihoods_that_are_no_numbers(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    from medqa_cli.model.kernels.packing import AnswerScore

    broken = [AnswerScore(float("nan"), 5), AnswerScore(2.0, 5)]
    monkeypatch.setattr("medqa_cli.evaluation.generation.score_answers", lambda *_, **__: broken)
    outcome = medqa("eval", "--limit", "2")
    said = "adapter: 1 of 2 likelihoods are not finite in torch."
    fails(outcome, 1, said, "set model.compute_dtype to float32")
    assert not (trained / "run" / "eval" / "results.json").exists()


def test_any_other_failure_of_the_disk_shows_where_it_was(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        medqa("eval")


# Questions


def test_no_question_at_a_terminal_whose_answer_goes_elsewhere(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b""))
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    fails(medqa("ask"), 2, "no question", 'medqa ask "How to treat glaucoma?"')


def test_an_empty_question(trained: Path, medqa: Medqa) -> None:
    fails(medqa("ask", ""), 2, "the question is empty", "medqa ask")


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_an_empty_question_on_standard_input(
    trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    fails(medqa("ask"), 2, "the question is empty", "medqa ask")


def test_a_question_on_standard_input_is_answered(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("What is\n Ménière?\n".encode())))
    outcome = medqa("ask", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["question"] == "What is Ménière?"


def test_a_question_in_another_encoding(trained: Path, medqa: Medqa) -> None:
    """A Latin-1 terminal passes bytes that Python turns into lone surrogates; no tokenizer takes those."""
    outcome = medqa("ask", "What is M\udce9ni\udce8re?", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["question"] == "What is M\ufffdni\ufffdre?"


def test_a_question_longer_than_the_context(trained: Path, medqa: Medqa) -> None:
    fails(medqa("ask", "gout " * 600), 2, "the model's context is 512 tokens", "shorter question")


# Options


@pytest.mark.parametrize(("given", "named"), [("tuned", "tuned"), ("adapter,bse", "bse"), (",", "(none)")])
def test_eval_of_an_unknown_model(trained: Path, medqa: Medqa, given: str, named: str) -> None:
    fails(medqa("eval", "--model", given), 2, f"unknown model {named}", "adapter, base, gguf, merged")


def test_eval_of_a_merged_model_that_was_not_made(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_early(*_: Any, **__: Any) -> None:
        raise AssertionError("the adapter was scored before the merged model was looked for")

    monkeypatch.setattr("medqa_cli.evaluation.generation.score_answers", too_early)
    fails(medqa("eval", "--model", "adapter,merged"), 2, "no merged model in run/merged", "medqa merge")


def test_eval_of_two_servers(trained: Path, medqa: Medqa) -> None:
    servers = "openai:http://127.0.0.1:9/v1,openai:http://127.0.0.1:10/v1"
    fails(medqa("eval", "--model", servers), 2, "--model names two servers", "each with a run_dir of its own")


def test_eval_of_two_files_of_one_name(trained: Path, medqa: Medqa) -> None:
    config = (trained / "medqa.yaml").read_text()
    item = {"question": "Which?", "options": dict(zip("ABCD", "1234", strict=True)), "answer_idx": "A"}
    (trained / "quiz.jsonl").write_text(json.dumps(item))
    two = "multiple_choice: [{name: quiz, path: quiz.jsonl}, {name: quiz, path: other.jsonl}]"
    (trained / "medqa.yaml").write_text(config.replace("bootstrap_draws: 100", f"bootstrap_draws: 100, {two}"))
    fails(medqa("eval"), 2, "eval.multiple_choice names two files quiz", "its own name")


def test_eval_says_that_many_answers_take_long(trained: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_cli.evaluation.measuring._MANY_ANSWERS", 1)
    outcome = medqa("eval", "--model", "adapter,base", "--limit", "1")
    assert outcome.code == 0, outcome.err
    assert "1 questions x 2 models, up to 8 tokens an answer; an interrupted run can be resumed" in outcome.err


def test_rescoring_what_was_not_measured(trained: Path, medqa: Medqa) -> None:
    fails(medqa("eval", "--rescore"), 2, "no samples in run/eval/samples.jsonl", "measure first: medqa eval")
    fails(medqa("eval", "--rescore", "--limit", "2"), 2, "it takes no --limit")
    assert medqa("eval", "--model", "base", "--limit", "2").code == 0
    results = trained / "run" / "eval" / "results.json"
    results.write_text("[]")
    fails(
        medqa("eval", "--rescore"),
        2,
        "run/eval/results.json is damaged: not the results of an evaluation",
        "medqa eval",
    )
    assert results.read_text() == "[]"


def test_a_gate_on_what_is_not_measured(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("eval", "--fail-on", "adapter.loop_rate > 0.02", "--set", "eval.metrics=[nll]")
    fails(outcome, 2, "--fail-on: eval.metrics leaves out loop_rate", "add loop_rate to eval.metrics, or all")
    assert not (trained / "run" / "eval").exists()


def test_eval_without_room_for_an_answer(trained: Path, medqa: Medqa) -> None:
    outcome = medqa("eval", "--set", "model.max_length=8")
    fails(outcome, 2, "no question leaves room for an answer", "raise model.max_length")
    assert not (trained / "run" / "eval").exists()


def test_eval_of_an_empty_split(trained: Path, medqa: Medqa) -> None:
    (trained / "data" / "test.jsonl").write_text("")
    fails(medqa("eval"), 2, "the test split of data is empty")


def test_merging_over_somebody_elses_folder(trained: Path, medqa: Medqa) -> None:
    (trained / "mine").mkdir()
    (trained / "mine" / "thesis.txt").write_text("years of work")
    fails(medqa("merge", "--out", "mine"), 2, "mine exists and was not made by medqa merge", "--out DIR")
    assert (trained / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--no-such-option"], "No such option: --no-such-option"),
        (["trian"], "No such command 'trian'"),
        (["config", "chek"], "No such command 'chek'"),
        (["eval", "--limit", "many"], "Invalid value for '--limit'"),
        (["eval", "--limit", "0"], "Invalid value for '--limit'"),
        (["ask", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_error_with_exit_code_2(
    workspace: Path, medqa: Medqa, arguments: list[str], said: str
) -> None:
    outcome = medqa(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert outcome.err.count("Error: ") == 1
    assert "Traceback" not in outcome.err


# Debugging and JSON


def run_medqa(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medqa_cli", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_medqa_debug_shows_the_traceback(workspace: Path) -> None:
    quiet = run_medqa(workspace, "convert", "none.csv", MEDQA_DEBUG="")
    fails(Outcome(quiet.returncode, quiet.stdout, quiet.stderr), 2, "none.csv does not exist")
    loud = run_medqa(workspace, "convert", "none.csv", MEDQA_DEBUG="1")
    assert loud.stdout == ""
    assert loud.returncode != 0
    assert "Traceback" in loud.stderr
    assert "check_sources" in loud.stderr
    assert "none.csv does not exist" in loud.stderr


def one_object(outcome: Outcome) -> dict[str, Any]:
    """The one JSON object on stdout, in strict JSON: no NaN, no second document, no text beside it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("}\n")
    found = json.loads(outcome.out, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def test_json_is_one_object_for_every_command(workspace: Path, medqa: Medqa) -> None:
    assert one_object(medqa("config", "check", "--json")) == {"valid": True, "path": "medqa.yaml"}
    shown = one_object(medqa("config", "show", "--json", "--set", "lora.r=4"))
    assert "--set" in json.dumps(shown)
    report = one_object(medqa("convert", "qa.csv", "--json"))
    assert report == json.loads((workspace / "data" / "report.json").read_text(encoding="utf-8"))
    assert report["rows"]["read"] == len(ROWS)
    summary = one_object(medqa("train", "--json", "--set", "model.quantization=nf4"))
    assert summary == json.loads((workspace / "run" / "train.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["global_step"]) == ("completed", 2)
    answer = one_object(medqa("ask", "What is gout?", "--json"))
    assert (answer["question"], answer["model"]["name"]) == ("What is gout?", "adapter")
    merged = one_object(medqa("merge", "--json"))
    assert merged == json.loads((workspace / "run" / "merged" / "merge.json").read_text(encoding="utf-8"))
    results = one_object(medqa("eval", "--json", "--model", "adapter,base,merged"))
    assert results == json.loads((workspace / "run" / "eval" / "results.json").read_text(encoding="utf-8"))
    models = ("adapter", "base", "merged")
    assert list(results["models"]) == [name for model in models for name in (model, f"{model}_greedy")]


def test_an_error_under_json_leaves_stdout_empty(workspace: Path, medqa: Medqa) -> None:
    fails(medqa("ask", "What is gout?", "--json"), 2, "nothing has been trained there yet")
