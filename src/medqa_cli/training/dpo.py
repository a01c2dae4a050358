"""``medqa train --method dpo``: trains an adapter further on pairs of which clinicians preferred one answer.

TRL's ``DPOTrainer`` does it (arXiv 2305.18290); the adapter as it was is the reference. TRL gets the token ids of the
prompt contract, so that a pair is trained on as ``ask`` and ``eval`` read it. What it leaves is a run folder like that
of a training.
"""

import contextlib
import copy
import importlib.util
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from medqa_cli import console, distributed
from medqa_cli.cards import preference_card
from medqa_cli.config.schema import Config
from medqa_cli.environment import describe_environment, recorded_environment
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import CARD_NAME, RunFolder, atomic_file, locked, require_file, sha256_of_file, write_json
from medqa_cli.model import devices, quantization
from medqa_cli.model.load import LoadedModel, load_model, load_tokenizer
from medqa_cli.model.weights import adapter_file
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.training import checkpoints, outcome, resume

_KEYS = ("prompt", "chosen", "rejected")
# Token ids of a pair, as TRL names them: the prompt, and both answers with their end token.
_ID_KEYS = ("prompt_ids", "chosen_ids", "rejected_ids")
PreferencePair = dict[str, list[int]]
_EXPORT = "write them with: medqa review export --format dpo review-*.json"
_LONGEST_LINE = 1 << 25  # characters


def require_trl() -> None:
    """Check that TRL is installed, before anything is loaded.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("trl") is None:
        raise InputError("--method dpo trains with TRL, which is not installed", "pip install 'medqa-cli[dpo]'")


def train_on_pairs(
    config: Config, start: RunFolder, pairs_path: Path, resolved_config: str, *, restart: bool = False
) -> dict[str, Any]:
    """Train a run's adapter further; the result goes to the run folder of the config.

    Args:
        config: its ``run_dir`` is the folder to write.
        start: the run whose adapter is trained further; it stays as it is.
        pairs_path: JSON Lines with the keys prompt, chosen and rejected.
        resolved_config: the config as the text of ``config.yaml``.
        restart: delete an earlier training of the folder first.

    Returns:
        The content of ``train.json``.

    Raises:
        InputError: TRL, adapter or pairs are missing or cannot be used, or the folder holds a training.
        MedqaError: the adapter came out without effect or not finite.
    """
    started = time.perf_counter()
    require_trl()
    run = config.run
    _check_folders(start, run, restart=restart)
    console.doing("reading the pairs ...")
    rows = read_pairs(pairs_path)
    loaded = load_model("adapter", start, config.model, config.prompt, batches=True)
    pairs = _pairs_that_fit(rows, loaded, pairs_path, config.model.max_length)
    console.doing("training ...")
    with locked(run.path, "medqa train"):
        resume.prepare_run_folder(run, None, restart=restart)
        with atomic_file(run.config_path) as file:
            file.write(resolved_config)
        write_json(run.environment_path, _environment(start, loaded))
        tokenizer = load_tokenizer(str(start.adapter_dir))
        log = _train(config, run, loaded, copy.deepcopy(tokenizer), pairs)
        summary = _summary(log, pairs, loaded, time.perf_counter() - started)
        write_json(run.train_json_path, {**summary, "adapter_step": None})
        card_path = start.adapter_dir / CARD_NAME
        card_before = card_path.read_text(encoding="utf-8", errors="replace") if card_path.is_file() else ""
        outcome.save_adapter(
            run.adapter_dir,
            loaded.model,
            None,
            tokenizer=tokenizer,
            contract=loaded.encoder.contract,
            card=preference_card(card_before, config, summary),
        )
        write_json(run.train_json_path, summary)
    return summary


def _pairs_that_fit(
    rows: Sequence[dict[str, str]], loaded: LoadedModel, pairs_path: Path, max_length: int
) -> list[PreferencePair]:
    pairs, num_left_out = encode_pairs(rows, loaded.encoder, max_length)
    if num_left_out:
        console.warn(f"{num_left_out} pairs left out: their prompt alone fills model.max_length")
    if not pairs:
        raise InputError(f"no pair of {pairs_path} leaves room for an answer", "raise model.max_length")
    return pairs


def _environment(start: RunFolder, loaded: LoadedModel) -> dict[str, Any]:
    return {
        **recorded_environment(start),
        **describe_environment(),
        "device": devices.describe_device(loaded.device),
        "started_from": {"run": start.path.name, "adapter_sha256": sha256_of_file(adapter_file(start.adapter_dir))},
    }


def _check_folders(start: RunFolder, run: RunFolder, *, restart: bool) -> None:
    if distributed.world_size() > 1:
        raise InputError("--method dpo runs in one process", "start it without torchrun or accelerate launch")
    if run.path.resolve() == start.path.resolve():
        raise InputError(
            f"--out is {run.path}, the run whose adapter is the reference", "name another folder, or leave --out out"
        )
    if not restart and (run.adapter_dir.exists() or checkpoints.numbered_checkpoints(run.checkpoints_dir)):
        raise InputError(
            f"{run.path} already holds a training run", "replace it with --restart, or name another folder: --out DIR"
        )


def read_pairs(path: Path) -> list[dict[str, str]]:
    """Read a file of preference pairs.

    Raises:
        InputError: it is missing, empty or damaged.
    """
    require_file(path)
    rows: list[dict[str, str]] = []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), ""), start=1):
                if line.strip():
                    rows.append(_pair_of_line(line, f"{path}:{number}"))
    except FileNotFoundError as error:
        raise InputError(f"no preference pairs in {path}", _EXPORT) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", _EXPORT) from error
    if not rows:
        raise InputError(f"{path} holds no preference pairs", "judge more questions, then " + _EXPORT)
    return rows


def _pair_of_line(line: str, place: str) -> dict[str, str]:
    try:
        value = json.loads(line) if len(line) <= _LONGEST_LINE else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: no JSON: {error}", _EXPORT) from error
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in _KEYS):
        raise InputError(f"{place}: expected an object with the texts {', '.join(_KEYS)}", _EXPORT)
    return {key: value[key] for key in _KEYS}


def encode_pairs(
    rows: Sequence[dict[str, str]], encoder: PromptEncoder, max_length: int
) -> tuple[list[PreferencePair], int]:
    """Turn pairs into the token ids of training, ``ask`` and ``eval``.

    Args:
        rows: of ``read_pairs``.
        encoder: of the adapter.
        max_length: longest prompt and answer in tokens; longer answers are cut as in training.

    Returns:
        the pairs, and how many were left out because their prompt leaves no room.

    Raises:
        InputError: a prompt is not one of this adapter.
    """
    text = encoder.contract.text
    questions = []
    for number, row in enumerate(rows, start=1):
        prompt = row["prompt"]
        is_own = prompt.startswith(text.before_question) and prompt.endswith(text.after_question)
        inner = prompt[len(text.before_question) : len(prompt) - len(text.after_question)]
        if text.earlier is not None and text.earlier.before_last in inner:
            raise InputError(
                f"pair {number}: its prompt has earlier turns; preferences are learned of questions that stand alone",
                "leave it out",
            )
        if not is_own or len(prompt) < len(text.before_question) + len(text.after_question):
            raise InputError(
                f"pair {number}: its prompt is not one of this adapter, which begins "
                f"{text.before_question[:60]!a} and ends {text.after_question[-60:]!a}",
                f"{_EXPORT} in the run of this adapter",
            )
        questions.append(inner)
    chosen, rejected = (
        encoder.encode_examples(questions, [row[key].removeprefix(text.answer_prefix) for row in rows], max_length)
        for key in ("chosen", "rejected")
    )
    pairs = []
    for good, bad in zip(chosen, rejected, strict=True):
        if good.num_answer_tokens and bad.num_answer_tokens:
            size = len(good.input_ids) - good.num_answer_tokens
            ids = (good.input_ids[:size], good.input_ids[size:], bad.input_ids[size:])
            pairs.append(dict(zip(_ID_KEYS, ids, strict=True)))
    return pairs, len(rows) - len(pairs)


class _Log(TrainerCallback):
    """Writes a line for each logged step, as ``train`` does: figures, never texts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how many steps there will be: the first may take minutes."""
        console.note(f"{state.max_steps:,} optimizer steps; pairs in each: {args.gradient_accumulation_steps}")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep the losses and what TRL calls rewards."""
        if "loss" not in (logs or {}):
            return
        line = {"step": state.global_step, **{key.replace("/", "_"): value for key, value in logs.items()}}
        self.lines.append(line)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        in_order = f"pairs in order {line['rewards_accuracies']:.0%}"
        console.note(f"step {line['step']}/{state.max_steps}: loss {line['loss']:.4f}, {in_order}")


def _train(
    config: Config, run: RunFolder, loaded: LoadedModel, tokenizer: Any, pairs: Sequence[PreferencePair]
) -> list[dict[str, Any]]:
    """Train ``loaded.model`` in place; return the lines of ``train.jsonl``. TRL may give ``tokenizer`` a pad token."""
    with _silent_libraries():
        from datasets import Dataset
        from trl import DPOTrainer

        quantization.keep_weights_differentiable(loaded.model)
        if (bias := loaded.model.peft_config["default"].bias) != "none":
            raise InputError(
                f"the adapter was trained with lora.bias: {bias}; the base would move with it, and there would be no "
                "reference",
                "train one with lora.bias: none",
            )
        loaded.model.set_adapter("default")  # loaded for answers, it was frozen
        log = _Log(run.train_log_path)
        trainer = DPOTrainer(
            model=loaded.model,
            args=_arguments(config, run, loaded),
            # TRL tokenizes texts in its own way; what stands here is replaced below.
            train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=tokenizer,
            callbacks=[log],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout
        if not set(_ID_KEYS) <= set(trainer.train_dataset.column_names):
            raise MedqaError(
                f"this version of TRL keeps tokens in {', '.join(trainer.train_dataset.column_names)}; expected "
                f"{', '.join(_ID_KEYS)}",
                "install the version of constraints.txt: pip install trl==1.16.0",
            )
        trainer.train_dataset = Dataset.from_list(list(pairs))
        # TRL rounded the trained matrices to bfloat16 on a 4-bit base; its copy "ref" has them unrounded.
        for name, parameter in loaded.model.named_parameters():
            if parameter.requires_grad:
                unrounded = loaded.model.get_parameter(name.replace(".default.", ".ref."))
                parameter.data = unrounded.detach().float().clone()
        trainer.train()
    loaded.model.delete_adapter("ref")
    with contextlib.suppress(OSError):
        run.checkpoints_dir.rmdir()  # Transformers makes it, and nothing is kept there
    return log.lines


def _arguments(config: Config, run: RunFolder, loaded: LoadedModel) -> Any:
    from trl import DPOConfig

    is_half = loaded.dtype in (torch.bfloat16, torch.float16) and loaded.device.type != "cpu"
    return DPOConfig(
        output_dir=str(run.checkpoints_dir),
        learning_rate=config.dpo.learning_rate,
        beta=config.dpo.beta,
        num_train_epochs=config.dpo.num_train_epochs,
        max_steps=config.dpo.max_steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.dpo.pairs_per_step,
        max_grad_norm=config.train.max_grad_norm,
        gradient_checkpointing=loaded.device.type == "cuda",
        bf16=is_half and loaded.dtype == torch.bfloat16,
        fp16=is_half and loaded.dtype == torch.float16,
        use_cpu=loaded.device.type == "cpu",
        max_length=None,  # the pairs are cut already
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Keep TRL from telling its makers that it runs, and ``datasets`` from drawing bars."""
    import datasets
    from huggingface_hub import constants

    # Read at each call, also where the variable of the same name is not set.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    logging.getLogger("trl").setLevel(logging.ERROR)  # it warns of the row that is replaced
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _summary(
    log: Sequence[dict[str, Any]], pairs: Sequence[PreferencePair], loaded: LoadedModel, seconds: float
) -> dict[str, Any]:
    """Return the content of ``train.json``."""
    first, last = log[0], log[-1]
    return {
        "method": "dpo",
        "status": "completed",
        "global_step": last["step"],
        "adapter_step": last["step"],
        "num_pairs": len(pairs),
        "num_pair_tokens": sum(len(ids) for p in pairs for ids in (*p.values(), p["prompt_ids"])),
        "train_loss": [first["loss"], last["loss"]],
        # Share of pairs whose better answer gained more than the worse one, and by how much (TRL's "rewards").
        "pairs_in_order": [first["rewards_accuracies"], last["rewards_accuracies"]],
        "reward_margin": [first["rewards_margins"], last["rewards_margins"]],
        "peak_memory_bytes": devices.peak_memory_bytes(loaded.device),
        "seconds": round(seconds, 1),
    }


def show(summary: dict[str, Any], run: RunFolder) -> None:
    """Print what was trained, and where it lies."""
    rows = [
        ["pairs", f"{summary['num_pairs']:,}"],
        ["optimizer steps", f"{summary['global_step']:,}"],
        ["loss, first and last", " -> ".join(f"{loss:.4f}" for loss in summary["train_loss"])],
        ["pairs in order, first and last step", " -> ".join(f"{share:.0%}" for share in summary["pairs_in_order"])],
        ["peak memory", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"],
        ["time", f"{summary['seconds']:.0f} s"],
    ]
    console.table("Training on preferences completed", rows)
    console.line(f"adapter: {run.adapter_dir}   log: {run.train_log_path}")
    console.line(f"measure it: medqa eval --set run_dir={run.path}")
    console.line("the questions of the review are learned now: what it says to others tells how good it is")
