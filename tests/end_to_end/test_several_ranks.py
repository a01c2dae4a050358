"""Two processes, started as the launchers do it, compute what one computes with the same examples per step."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.commands import Starter, run_in
from helpers.paths import ROOT
from medqa_cli.training.checkpoints import problem_of

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
STEPS = 14  # 2 epochs of 49 rows, 8 rows per step: the last step of an epoch has one row for two ranks


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with converted data and in ``one`` the training of one process, with as many rows a step as two have.

    The output layer is one of its own, as Llama 2 has one: FSDP gathers it by itself.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("ranks")
    base = shutil.copytree(tiny_model_dir, folder / "untied")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig.from_pretrained(base, tie_word_embeddings=False)).save_pretrained(base)
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7}." + " It is long." * (i % 7) for i in range(61)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    # No dropout: two ranks draw other numbers than one. Forwards are short: ranks make several, not equally many.
    (folder / "medqa.yaml").write_text(
        f"""
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.1}}
prompt: {{template: chat}}
model: {{name_or_path: {base}, max_length: 96, compute_dtype: float32}}
lora: {{r: 4, target_modules: all-linear, lora_dropout: 0.0}}
train: {{num_train_epochs: 2, learning_rate: 5e-3, lr_scheduler_type: cosine, save_steps: 8, logging_steps: 1,
         eval_steps: 4, gradient_checkpointing: true, max_tokens_per_forward: 120,
         per_device_train_batch_size: 2, gradient_accumulation_steps: 2}}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    run_in(folder, "train", "--set", "run_dir=one", "--set", "train.per_device_train_batch_size=4")
    assert len(log_of(folder / "one")) == STEPS + 5  # looks at the validation split: before, every 4 steps, at the end
    return folder


@pytest.fixture
def workspace(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder after ``convert`` and the training of one process."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log_of(run_dir: str | Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(run_dir, "train.jsonl").read_text().splitlines()]


def assert_same_training(got: str, expected: str) -> None:
    keys = ("step", "epoch", "num_tokens", "learning_rate")
    assert [[line.get(key) for key in keys] for line in log_of(got)] == [
        [line.get(key) for key in keys] for line in log_of(expected)
    ]
    for key in ("loss", "validation_loss", "grad_norm"):
        values = [line[key] for line in log_of(expected) if key in line]
        assert len(values) >= 5
        assert [line[key] for line in log_of(got) if key in line] == pytest.approx(values, rel=1e-4), key
    weights, expected_weights = (load_file(Path(run, "adapter/adapter_model.safetensors")) for run in (got, expected))
    assert weights.keys() == expected_weights.keys()
    assert max(float(weight.abs().max()) for name, weight in expected_weights.items() if "lora_B" in name) > 0.01
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-5, msg=name)
    summaries = [json.loads(Path(run, "train.json").read_text()) for run in (got, expected)]
    for key in ("status", "global_step", "num_train_examples", "num_train_tokens", "num_truncated_answers"):
        assert summaries[0][key] == summaries[1][key], key


AS_TORCHRUN_SAYS = """
import json, os
from medqa_cli import distributed
found = [distributed.world_size(), distributed.rank(), distributed.local_rank(), distributed.is_main()]
print(json.dumps([*found, all(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))]))
"""


def test_torchrun_says_who_a_process_is(tmp_path: Path) -> None:
    """As the other tests here say it to the processes that they start."""
    (tmp_path / "script.py").write_text(AS_TORCHRUN_SAYS)
    command = [*TORCHRUN, "--redirects", "1", "--log-dir", str(tmp_path / "logs"), str(tmp_path / "script.py")]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    said = [json.loads(path.read_text()) for path in sorted((tmp_path / "logs").rglob("stdout.log"))]
    assert said == [[2, 0, 0, True, True], [2, 1, 1, False, True]]


def test_two_ranks_train_as_one_process(workspace: Path, starter: Starter) -> None:
    """Stopped by a signal to rank 1 alone, then gone on with."""
    train = ("train", "--set", "run_dir=two")
    main, other = starter.run_ranks(None, *train, watch="two/train.jsonl", step=3, signal=signal.SIGTERM)
    assert (main.returncode, other.returncode) == (130, 130), main.stderr + other.stderr
    assert (main.stdout, other.stdout, other.stderr) == ("", "", "")  # rank 0 alone speaks
    err = main.stderr
    summary = json.loads(Path("two/train.json").read_text())
    stopped_at = summary["global_step"]
    assert (summary["status"], 3 <= stopped_at < STEPS) == ("interrupted", True)
    assert err.count(f"stopped at step {stopped_at}; a checkpoint was saved") == 1
    assert err.count(f"step 3/{STEPS}: loss") == 1
    assert err.count("in each of 2 processes") == 1
    assert [line["step"] for line in log_of("two") if "loss" in line] == list(range(1, stopped_at + 1))
    checkpoint = max(Path("two/checkpoints").iterdir(), key=lambda path: path.stat().st_mtime)
    assert checkpoint.name == f"checkpoint-{stopped_at}"
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert not Path("two/adapter").exists()

    main, other = starter.run_ranks(None, *train, "--resume", "--json")
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    assert json.loads(main.stdout)["status"] == "completed"
    assert main.stderr.count(f"step {STEPS}/{STEPS}: loss") == 1
    assert (other.stdout, other.stderr) == ("", "")
    assert_same_training("two", "one")
    assert json.loads(Path("two/environment.json").read_text())["num_processes"] == 2


TROUBLE = """
import errno, sys
import torch
from medqa_cli import distributed
from medqa_cli.cli.program import main
from medqa_cli.model.kernels import packing
from medqa_cli.training import checkpoints

publish, losses_of = checkpoints.publish, packing.answer_token_losses
seen = []

def publish_until_full(aside, folder, step, **more):
    if step > 4:
        raise OSError(errno.ENOSPC, "No space left on device")
    publish(aside, folder, step, **more)

def losses_until_spoiled(model, batch):
    if torch.is_grad_enabled():  # validation counts none
        seen.append(batch)
    return losses_of(model, batch) * (float("nan") if len(seen) > 9 else 1.0)

if sys.argv[1:] == ["full"]:
    checkpoints.publish = publish_until_full
elif distributed.rank() == 1:
    packing.answer_token_losses = losses_until_spoiled
sys.argv = ["medqa", "train", "--set", "run_dir=two", "--set", "train.save_steps=2", "--set", "train.max_steps=8"]
main()
"""


@pytest.mark.parametrize(
    ("trouble", "reason", "said"),
    [
        ("full", "not_written", "checkpoint-6 could not be written: No space left on device; the checkpoint of step 4"),
        ("spoiled on rank 1", "diverged", "is nan; the run was stopped and no adapter was saved"),
    ],
)
def test_trouble_on_one_rank_ends_both(workspace: Path, starter: Starter, trouble: str, reason: str, said: str) -> None:
    main, other = starter.run_ranks(TROUBLE, trouble)
    assert (main.returncode, other.returncode) == (1, 1), main.stderr + other.stderr
    assert main.stderr.count(said) == 1, main.stderr
    assert (main.stdout, other.stdout, other.stderr) == ("", "", "")
    assert json.loads(Path("two/train.json").read_text())["stop_reason"] == reason
    assert not Path("two/adapter").exists()
    saved = sorted(path.name for path in Path("two/checkpoints").iterdir())
    assert saved
    assert all(problem_of(Path("two/checkpoints", name)) is None for name in saved)


FSDP_ON_CPU = f"import runpy; runpy.run_path({str(ROOT / 'tests/helpers/fsdp_on_cpu.py')!r}, run_name='__main__')"


def set_by_accelerate(config: Path) -> dict[str, str]:
    """The variables that ``accelerate launch`` sets for its processes."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    seen: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.distributed.run.run", lambda arguments: seen.update(os.environ))
        words = ["--config_file", str(config), "--num_processes", "2", "--main_process_port", "0", "-m", "medqa_cli"]
        launch_command(launch_command_parser().parse_args(words))
    return {name: value for name, value in seen.items() if os.environ.get(name) != value}


def test_a_sharded_base_trains_as_a_whole_one(workspace: Path, starter: Starter) -> None:
    """Half of the training by one process, the other half by two that hold half of the NF4 base each."""
    shutil.copytree("one", "sharded")
    shutil.rmtree("sharded/adapter")
    for checkpoint in Path("sharded/checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("checkpoint-")) > 8:
            shutil.rmtree(checkpoint)
    variables = set_by_accelerate(ROOT / "examples/accelerate_fsdp.yaml")
    train = ("train", "--resume", "--set", "run_dir=sharded")
    main, other = starter.run_ranks(FSDP_ON_CPU, *train, environment=variables)
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    assert main.stdout.count("Training completed") == 1
    assert other.stdout == ""
    assert f"step 8/{STEPS}" not in main.stderr
    assert f"step 9/{STEPS}" in main.stderr
    assert_same_training("sharded", "one")
    states = [torch.load(f"{run}/checkpoints/checkpoint-{STEPS}/optimizer.pt")["state"] for run in ("sharded", "one")]
    assert states[0].keys() == states[1].keys()
    assert len(states[0]) == 28  # seven layers of two blocks, A and B
    for number, state in states[1].items():
        for name, value in state.items():
            torch.testing.assert_close(states[0][number][name], value, rtol=1e-3, atol=1e-6, msg=f"{number} {name}")
