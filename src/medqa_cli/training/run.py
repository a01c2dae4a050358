"""The work of ``medqa train``: set up, load, train, check, save."""

import contextlib
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from medqa_cli import allocators, console, distributed
from medqa_cli.cards import adapter_card
from medqa_cli.config.schema import SCHEDULERS_THAT_WATCH, Config
from medqa_cli.data.canaries import is_canary
from medqa_cli.data.dataset import evenly_spaced, report_of
from medqa_cli.environment import describe_environment, recorded_environment
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder, atomic_file, locked, write_json
from medqa_cli.model import devices, lora
from medqa_cli.training import arguments, callbacks, checkpoints, data_order, fsdp, outcome, setup
from medqa_cli.training.callbacks import read_log
from medqa_cli.training.core_sharing import sharing_cores
from medqa_cli.training.divergence import DivergedError, DivergenceDetector
from medqa_cli.training.estimate import estimate_here
from medqa_cli.training.resume import (
    bound_to,
    checkpoint_to_go_on_from,
    prepare_run_folder,
    warn_if_disk_is_small,
    written_by_main,
)
from medqa_cli.training.trainer import MedqaTrainer


def train(
    config: Config, run: RunFolder, resolved_config: str, *, resume: bool = False, restart: bool = False
) -> dict[str, Any]:
    """Train an adapter and save it with everything that is needed to use it.

    Args:
        config: what to train on what.
        run: the folder that gets it.
        resolved_config: the config as the text of ``config.yaml``.
        resume: go on from the newest checkpoint.
        restart: delete an earlier training run of this folder first.

    Returns:
        The content of ``train.json``.

    Raises:
        InputError: data or model cannot be used, or the folder already holds a training run.
        Interrupted: stopped by a signal, checkpoint saved.
        NotWrittenError: the disk is full; the checkpoints before are kept.
        MedqaError: the training run diverged, there was nothing to learn, or the adapter came out without effect.
    """
    started = time.perf_counter()
    device, dtype, trained_with = _check_settings(config, resolved_config)
    checkpoint = checkpoint_to_go_on_from(run, trained_with, resume=resume, restart=restart)
    console.doing("reading the data ...")
    inputs = setup.prepare(config, device, dtype)
    console.doing("predicting the memory ...")
    inputs = replace(inputs, estimate=estimate_here(config, inputs.hf_config, inputs.data.examples, dtype, device))
    console.doing("making the adapter ...")
    was_compiled = recorded_environment(run).get("compiled_layers", False) if checkpoint is not None else None
    model, environment = _settled_model(inputs, trained_with, was_compiled)
    # Whether they can be made is known before anything of an earlier training run is deleted.
    with distributed.raise_on_all_ranks():
        arguments.make_optimizer(_arguments(run, inputs, is_resumed=checkpoint is not None), model)
    console.doing("training ...")
    with contextlib.ExitStack() as locks:

        def begin() -> None:
            # Only now: whatever was wrong with data, model or config has left an earlier training run untouched.
            locks.enter_context(locked(run.path, "medqa train"))
            prepare_run_folder(run, checkpoint, restart=restart)
            steps = data_order.num_steps(config.train, len(inputs.data.examples))
            warn_if_disk_is_small(run, config.train, steps, model.get_nb_trainable_parameters()[0])
            with atomic_file(run.config_path) as file:
                file.write(resolved_config)
            write_json(run.environment_path, environment)

        written_by_main(run, begin)
        with checkpoints.full_disk_is_an_error(run.path):
            result = run_loop(run, model, inputs, checkpoint)
        console.doing("saving the adapter ...")
        summary = _summarize(run, result, inputs, time.perf_counter() - started)
        return _save(run, model, inputs, result, summary, environment)


def _check_settings(config: Config, resolved_config: str) -> tuple[torch.device, torch.dtype, dict[str, Any]]:
    """Check what needs neither data nor model; return device, type of the products and what checkpoints are bound to.

    Raises:
        InputError: settings do not go together, or with this machine, or are not the same on all ranks.
    """
    with distributed.raise_on_all_ranks():
        fsdp.check_sharding(config.model, config.train)
        lora.check_init(config.model, config.lora, sharded=distributed.is_sharded())
        arguments.require_tracker(config.train.report_to)
        device = devices.pick_device()
        trained_with = bound_to(config, arguments.optimizer_on(config.train.optim, device))
        dtype = devices.pick_compute_dtype(config.model.compute_dtype, device)
        fsdp.check_sharded_type(dtype)
    setup.check_same_on_all_ranks(resolved_config, trained_with, dtype)
    return device, dtype, trained_with


def _settled_model(
    inputs: setup.TrainingInputs, trained_with: dict[str, Any], was_compiled: bool | None
) -> tuple[Any, dict[str, Any]]:
    """Return the model with its adapter, in the fastest way that is right, and the content of ``environment.json``."""
    with distributed.raise_on_all_ranks():
        model = setup.make_model(inputs)
        setup.describe_run(model, inputs)
    way = setup.settle_way_for_training(model, inputs)
    is_compiled = setup.settle_compiling(model, inputs, way, was_compiled)
    return model, {
        **describe_environment(),
        "device": devices.describe_device(inputs.device),
        "unused_gpu": devices.unused_gpu() if inputs.device.type == "cpu" else None,
        "compute_dtype": devices.dtype_name(inputs.dtype),
        "num_processes": distributed.world_size(),
        "forwards": way.as_json(),
        "compiled_layers": is_compiled,
        "trained_with": trained_with,
    }


def run_loop(run: RunFolder, model: Any, inputs: setup.TrainingInputs, checkpoint: Path | None) -> outcome.Outcome:
    """Run the training loop. Writes everything except the adapter to the run folder.

    Args:
        run: its folder.
        model: of ``make_model``.
        inputs: config, data and device; the limits decide on the size of a forward pass.
        checkpoint: where to go on from.
    """
    config, examples = inputs.config, inputs.data.examples
    validation = evenly_spaced(inputs.validation.examples, data_order.MAX_VALIDATION_EXAMPLES)
    with distributed.raise_on_all_ranks():
        args = _arguments(run, inputs, is_resumed=checkpoint is not None)
    arguments.set_up_trackers(args, run.path)
    divergence = DivergenceDetector()
    log = distributed.from_main(lambda: read_log(run.train_log_path))
    early_stopping = callbacks.EarlyStopping(log, config.train.early_stopping_patience)
    with console.run_display("training", data_order.num_steps(config.train, len(examples))) as display:
        peak_memory = partial(devices.peak_memory_bytes, inputs.device)
        monitor = callbacks.TrainingMonitor(run.train_log_path, display, divergence, peak_memory)
        trainer = MedqaTrainer(
            model=model,
            args=args,
            examples=examples,
            validation=validation,
            max_tokens_per_forward=inputs.limits.max_tokens,
            compute_dtype=inputs.dtype,
            callbacks=[*_limits_on_idle_memory(inputs), monitor],
            divergence=divergence,
            early_stopping=early_stopping,
        )
        with (
            callbacks.stop_on_signal(monitor),
            arguments.tracker_failures_told(args.report_to),
            sharing_cores(inputs.device.type),
        ):
            result = _run_to_the_end(trainer, monitor, early_stopping, checkpoint)
    console.doing("drawing the losses ...")
    written_by_main(run, lambda: outcome.plot_losses(read_log(run.train_log_path), run.loss_plot_path))
    return result


def _arguments(run: RunFolder, inputs: setup.TrainingInputs, *, is_resumed: bool) -> TrainingArguments:
    """Return the arguments of the loop.

    Raises:
        InputError: they cannot be made, or the scheduler follows a validation loss that there is not.
    """
    config, train = inputs.config, inputs.config.train
    interval = data_order.validation_interval(train, len(inputs.data.examples), len(inputs.validation.examples))
    if not inputs.validation.examples and train.lr_scheduler_type in SCHEDULERS_THAT_WATCH:
        raise InputError(
            f"train.lr_scheduler_type: {train.lr_scheduler_type} follows the validation loss, and the validation "
            f"split of {config.data.dir} is empty",
            "take another scheduler, or set data.validation_fraction and convert again",
        )
    args = arguments.make_training_arguments(
        replace(train, gradient_checkpointing=inputs.limits.recomputed),
        seed=config.seed,
        output_dir=run.checkpoints_dir,
        device=inputs.device,
        compute_dtype=inputs.dtype,
        eval_steps=interval,
    )
    # Before the first step the adapter is zero: the first evaluation is the base model's.
    args.eval_on_start = bool(inputs.validation.examples) and not is_resumed
    return args


def _limits_on_idle_memory(inputs: setup.TrainingInputs) -> list[TrainerCallback]:
    estimate = inputs.estimate
    if inputs.device.type != "cpu" or estimate is None:
        return []
    if estimate.keeps_freed_memory:
        return [callbacks.IdleMemoryLimit(estimate.peak_bytes + estimate.idle_bytes)]
    allocators.give_back_freed_memory()
    return []


def _run_to_the_end(
    trainer: MedqaTrainer,
    monitor: callbacks.TrainingMonitor,
    early_stopping: callbacks.EarlyStopping,
    checkpoint: Path | None,
) -> outcome.Outcome:
    """Train; return how it ended, with the error that ended it if one did."""
    status: outcome.Status = "interrupted"
    reason: outcome.StopReason = "signal"
    raised: DivergedError | checkpoints.NotWrittenError | None = None
    try:
        trainer.train(checkpoint)
        step = trainer.state.global_step
        at_the_end = step >= trainer.state.max_steps
        if at_the_end and trainer.validation:
            log = distributed.from_main(lambda: read_log(monitor.log_path))
            if not any(line["step"] == step and "validation_loss" in line for line in log):
                # Resumed from a checkpoint of the last step that had not been evaluated.
                trainer.evaluate()
        if at_the_end or not distributed.any_rank(monitor.interrupted):
            reached = at_the_end and not early_stopping.stopped_early
            status, reason = "completed", "max_steps" if reached else "early_stopping"
    except DivergedError as error:
        status, reason, raised = "diverged", "diverged", error
        if error.risen_since < error.step:
            # Checkpoints saved after that point are already diverging.
            checkpoints_dir, since = Path(trainer.args.output_dir), error.risen_since - 1
            for path in distributed.from_main(lambda: checkpoints.set_aside(checkpoints_dir, since)):
                console.warn(f"{path} was saved when the loss was rising already; --resume does not go on from it")
    except checkpoints.NotWrittenError as error:
        reason, raised = "not_written", error
    except KeyboardInterrupt:
        # A second Ctrl-C: at once, with the checkpoints that there are. Other ranks may be anywhere by now.
        if distributed.world_size() > 1:
            raise
        console.warn("stopping at once")
    if raised is not None:
        # Trackers close their runs here.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    return outcome.Outcome(
        status,
        reason,
        raised,
        global_step=trainer.state.global_step,
        num_tokens=trainer.state.num_input_tokens_seen,
        tokens_per_second=monitor.throughput.tokens_per_second,
        num_skipped_steps=trainer.divergence.num_skipped_steps,
        num_validation_examples=len(trainer.validation),
        early_stopping=early_stopping,
    )


def _summarize(run: RunFolder, result: outcome.Outcome, inputs: setup.TrainingInputs, seconds: float) -> dict[str, Any]:
    """Return the content of ``train.json`` without the adapter's step.

    Raises:
        MedqaError: there is no adapter to save; ``train.json`` is written.
    """
    estimate = inputs.estimate
    summary = {
        **distributed.from_main(lambda: outcome.summarize(result, run, read_log(run.train_log_path))),
        "num_train_examples": len(inputs.data.examples),
        "num_truncated_answers": inputs.data.num_truncated_answers,
        "num_examples_without_answer": inputs.data.num_without_answer,
        "num_canary_examples": sum(is_canary(example.row_id) for example in inputs.data.examples),
        "peak_memory_bytes": max(distributed.all_gather(devices.peak_memory_bytes(inputs.device))),
        # FSDP's own buffers are not part of the estimate.
        "predicted_peak_memory_bytes": None if estimate is None or distributed.is_sharded() else estimate.peak_bytes,
        "keeps_freed_memory": estimate is not None and estimate.keeps_freed_memory,
        "seconds": round(seconds, 1),
    }

    def raise_if_incomplete() -> None:
        error = outcome.error_of(result, run, Path(inputs.config.data.dir))
        if error is not None:
            # On a full disk it may not find room either; the message says what matters.
            with contextlib.suppress(OSError, InputError):
                write_json(run.train_json_path, summary)
            raise error

    distributed.from_main(raise_if_incomplete)
    return summary


def _save(
    run: RunFolder,
    model: Any,
    inputs: setup.TrainingInputs,
    result: outcome.Outcome,
    summary: dict[str, Any],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Save the adapter; return the content of ``train.json``, which names the adapter's step once there is one."""
    chosen = distributed.from_main(lambda: outcome.adapter_checkpoint(run, result))
    adapter_step = result.global_step if chosen is None else result.early_stopping.best_step
    complete = {**summary, "adapter_step": adapter_step}
    weights = fsdp.whole_adapter(model) if distributed.is_sharded() and chosen is None else None

    def write() -> None:
        write_json(run.train_json_path, summary)
        card = adapter_card(
            inputs.config,
            base_name=inputs.source.name,
            base_kind=inputs.source.kind,
            base_revision=inputs.source.revision,
            contract=inputs.contract,
            compute_dtype=devices.dtype_name(inputs.dtype),
            summary=complete,
            data=report_of(Path(inputs.config.data.dir)),  # None if damaged: no reason to give up a trained adapter
            environment=environment,
        )
        outcome.save_adapter(
            run.adapter_dir,
            model,
            chosen,
            tokenizer=inputs.tokenizer,
            contract=inputs.contract,
            card=card,
            weights=weights,
        )
        write_json(run.train_json_path, complete)

    written_by_main(run, write)
    return complete
