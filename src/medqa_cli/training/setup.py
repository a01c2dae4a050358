"""What a training run or its plan needs: base, tokenizer, encoded data, the model and the way in which it computes.

Also names unusual settings.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from medqa_cli import console, distributed
from medqa_cli.config.schema import SCHEDULERS_THAT_WATCH, Config, LoraConfig, ModelConfig, TrainConfig
from medqa_cli.data import grounding, retrieval
from medqa_cli.data.dataset import EncodedSplit, encode_rows, read_split
from medqa_cli.environment import INDEX_SHA256, TRAIN_SHA256
from medqa_cli.errors import InputError
from medqa_cli.model import devices, quantization
from medqa_cli.model.kernels.compiled_layers import has_cpp_compiler
from medqa_cli.model.kernels.fused_layers import use_liger_kernels
from medqa_cli.model.kernels.verify import Way, compile_if_right, settle_way
from medqa_cli.model.load import load_base, load_config, load_tokenizer, num_embeddings
from medqa_cli.model.lora import add_lora, find_targets, init_adapter
from medqa_cli.model.resolve import ModelRef, find_base
from medqa_cli.prompt.contract import PromptContract, make_contract, room_for_earlier
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.template import prompt_notes
from medqa_cli.training import arguments, data_order, fsdp
from medqa_cli.training.estimate import ForwardLimits, MemoryEstimate, forward_limits

# Parameters of the base -> the highest usual learning rate, five times that of QLoRA (arXiv 2305.14314, table 9:
# 2e-4 up to 13 billion, 1e-4 above) and of LoRA (arXiv 2106.09685, tables 11 and 12: 2e-4 on GPT-2 and GPT-3). Small
# models bear more; below 100 million anything goes.
_HIGHEST_LEARNING_RATES = ((15e9, 5e-4), (1e9, 1e-3), (1e8, 2e-3))
_LOWEST_LEARNING_RATE = 1e-6
# alpha / r: 0.25 in QLoRA (16 / 64), 8 in LoRA on GPT-2 (32 / 4).
_SCALES = (0.05, 16.0)
_LEAST_SHARE_OF_ROWS = 0.1
# Parameters times tokens of a training for each thread, from which on ``auto`` compiles: about twice what pays for the
# compiling, which keeps one thread busy (docs/experiments/2026-12.md, "one graph for all layers").
_ENOUGH_WORK = 5e13


@dataclass(frozen=True)
class TrainingInputs:
    """What a config's names stand for here.

    ``dtype``: of the matrix products; ``hf_config``: that of the base; ``estimate``: of the memory, once it is made.
    """

    config: Config
    device: torch.device
    dtype: torch.dtype
    source: ModelRef
    hf_config: Any
    tokenizer: Any
    contract: PromptContract
    data: EncodedSplit
    validation: EncodedSplit
    estimate: MemoryEstimate | None = None

    @property
    def limits(self) -> ForwardLimits:
        """Of a forward pass; where the memory is not known, those of the fastest one."""
        if self.estimate is not None:
            return self.estimate.limits
        return forward_limits(self.config.model, self.config.train, self.device, self.dtype)


def prepare(config: Config, device: torch.device, dtype: torch.dtype) -> TrainingInputs:
    """Find the base, read and encode the data. All ranks must call it.

    Raises:
        InputError: data or base are not there or cannot be used.
        MedqaError: there is nothing to learn.
    """
    max_length = config.model.max_length
    with distributed.raise_on_all_ranks():
        train_rows = read_split(Path(config.data.dir), "train")
        validation_rows = read_split(Path(config.data.dir), "validation")
    source = find_base_in_turns(config.model)
    with distributed.raise_on_all_ranks():
        tokenizer = load_tokenizer(source.location, source.revision)
        rows = (*train_rows, *validation_rows)
        has_earlier, has_context = (any(getattr(row.given, name) for row in rows) for name in ("earlier", "context"))
        if config.prompt.sources and (has_earlier or has_context):
            raise InputError(
                f"{config.data.dir} holds questions with earlier turns or a context, and prompt.sources is "
                f"{config.prompt.sources}: both stand before the question",
                "set prompt.sources to 0, or convert again with data.turns: first and data.context_column: null",
            )
        earlier_tokens = room_for_earlier(max_length) if has_earlier else 0
        contract = make_contract(config.prompt, tokenizer, earlier_tokens, context=has_context)
        for note in prompt_notes(config.prompt, tokenizer):
            console.note(note)
        hf_config = load_config(source.location, source.revision)
        encoder = PromptEncoder(contract, tokenizer, num_embeddings(hf_config))
        if contract.text.sources:
            sources = grounding.Sources(retrieval.PassageIndex.of_folder(Path(config.data.dir)), encoder)
            decline = contract.text.decline
            train_rows = grounding.ground_rows(train_rows, sources, config.sources, decline, config.seed)
            validation_rows = grounding.ground_rows(validation_rows, sources, config.sources, decline, config.seed)
        data = encode_rows(train_rows, encoder, max_length)
        validation = encode_rows(validation_rows, encoder, max_length)
        _tell_what_does_not_fit(data, max_length, earlier_tokens, contract.text.sources)
    return TrainingInputs(config, device, dtype, source, hf_config, tokenizer, contract, data, validation)


def _tell_what_does_not_fit(data: EncodedSplit, max_length: int, earlier_tokens: int, num_sources: int) -> None:
    if data.num_truncated_answers:
        console.warn(
            f"{data.num_truncated_answers} of {len(data.examples)} answers do not fit model.max_length = "
            f"{max_length}: they are cut and get no end token"
        )
    if data.num_cut_conversations:
        console.note(
            f"{data.num_cut_conversations} of {len(data.examples)} rows lose earlier turns "
            f"({data.num_turns_left_out} in all): a prompt with earlier turns has at most {earlier_tokens} tokens, "
            "half of model.max_length"
        )
    if data.num_without_answer:
        console.warn(
            f"{data.num_without_answer} rows left out: their prompt alone fills model.max_length = {max_length}"
            + (f" (with {num_sources} sources)" if num_sources else "")
        )


def find_base_in_turns(config: ModelConfig) -> ModelRef:
    """Find the base; a GGUF file is converted by rank 0, then by one rank of each host that has a cache of its own.

    Raises:
        InputError: it is not there.
    """
    base: ModelRef | None = None
    for my_turn in (distributed.is_main(), distributed.local_rank() == 0, True):
        with distributed.raise_on_all_ranks():
            if my_turn and base is None:
                base = find_base(config.name_or_path, config.revision)
    assert base is not None  # the last turn is everyone's
    return base


def check_same_on_all_ranks(resolved_config: str, trained_with: dict[str, Any], dtype: torch.dtype) -> None:
    """Check that all ranks have the same config, data and number type: each derives the others' work from its own.

    Args:
        resolved_config: the text of ``config.yaml``.
        trained_with: of ``bound_to``.
        dtype: of the matrix products.

    Raises:
        InputError: they have not; the message names the first thing that differs.
    """
    seen = distributed.all_gather((resolved_config, trained_with, dtype))
    for number, (config, settings, rank_dtype) in enumerate(seen):
        differing = [key for key, value in seen[0][1].items() if settings.get(key) != value]
        files = {TRAIN_SHA256: "train.jsonl in data.dir", INDEX_SHA256: "index.sqlite in data.dir"}
        differing_files = [name for key, name in files.items() if key in differing]
        if config != seen[0][0] or differing_files:
            what = "config" if config != seen[0][0] else differing_files[0]
            raise InputError(
                f"the processes do not read the same {what}: process {number} differs from process 0",
                "give all hosts the same files, best on a file system that they share",
            )
        if differing:
            raise InputError(
                f"{differing[0]} is {seen[0][1][differing[0]]} on process 0 and {settings.get(differing[0])} on "
                f"process {number}",
                "start all processes on the same kind of device, with the same launcher settings",
            )
        if rank_dtype != seen[0][2]:
            raise InputError(
                f"model.compute_dtype: auto is {seen[0][2]} on process 0 and {rank_dtype} on process {number}",
                "set model.compute_dtype to a type that all GPUs compute",
            )


def make_model(inputs: TrainingInputs) -> Any:
    """Load the base and put a fresh adapter on it, as it is trained."""
    config, source = inputs.config, inputs.source
    # Seeded before the adapter is made: its A matrices are random.
    transformers.set_seed(config.seed)
    base = load_base(source, config.model, inputs.device, inputs.dtype, packed=True, sharded=distributed.is_sharded())
    if not distributed.is_sharded():
        use_liger_kernels(base, inputs.device)
    tell_layers(base, config, inputs.dtype)
    model = add_lora(base, config.lora, source.name, source.revision)
    init_adapter(model, config.lora, source)
    return model


def tell_layers(base: Any, config: Config, dtype: torch.dtype) -> None:
    """Note what is unusual about the layers of a base: those that stay unquantized, those that get an adapter."""
    quantization.tell_unquantized(base, config.model, dtype)
    if note := find_targets(base, config.lora).note:
        console.note(note)


def settle_way_for_training(model: Any, inputs: TrainingInputs) -> Way:
    """Let a fresh model compute in the fastest way that is right for it. All ranks must call it.

    Raises:
        InputError: there is none.
    """
    # The backward passes of fused layers read the base's weights, which FSDP has given away by then.
    return settle_way(model, inputs.source.name, inputs.dtype, trains=True, fuses=not distributed.is_sharded())


def settle_compiling(model: Any, inputs: TrainingInputs, way: Way, before: bool | None) -> bool:
    """Let a model that is settled for training compile its layers, where the config wants that; return whether it does.

    Args:
        model: in the way that ``settle_way`` found.
        inputs: config, data, device and type.
        way: that way.
        before: what the run that is gone on from did, which ``auto`` follows; None: a fresh start.

    Raises:
        InputError: it is ``true``, and they cannot be compiled.
    """
    config = inputs.config.train
    wanted, pays = config.compile, before
    if wanted == "auto" and pays is None:
        work = quantization.num_parameters(model) * data_order.num_tokens_of_training(config, inputs.data.examples)
        pays = work >= _ENOUGH_WORK * torch.get_num_threads()
    if wanted is False or (wanted == "auto" and not pays):
        return False
    problem = _why_not_compiled(inputs, way)
    if not problem:
        with console.status("compiling the layers ..."):
            problem = compile_if_right(model, inputs.source.name, inputs.dtype)
        if problem and wanted == "auto":
            console.note(f"the layers are not compiled: {problem}")
    if problem and wanted is True:
        raise InputError(f"train.compile: true, but {problem}", "leave it at auto, or set train.compile: false")
    if problem and before:
        console.warn(f"the run was begun with compiled layers and goes on without, to other last digits: {problem}")
    return not problem


def _why_not_compiled(inputs: TrainingInputs, way: Way) -> str:
    if inputs.device.type != "cpu":
        return "layers are compiled on a CPU only"
    if distributed.world_size() > 1:
        return "layers are compiled in a training by one process only"
    if inputs.limits.recomputed:
        return "layers whose activations are recomputed are not compiled (train.gradient_checkpointing)"
    if not way.packed:
        return "this model computes one example at a time"
    if not has_cpp_compiler():
        return "there is no C++ compiler: install g++, or name one in the environment variable CXX"
    return ""


def describe_run(model: Any, inputs: TrainingInputs) -> None:
    """Say what is trained in which types on what, and which settings are unusual or have no effect here."""
    config = inputs.config
    trainable, total = model.get_nb_trainable_parameters()
    console.note(
        f"{config.model.name_or_path}: {config.model.quantization} base, {devices.dtype_name(inputs.dtype)} products, "
        f"{trainable:,} of {total:,} parameters trained, on {devices.describe_device(inputs.device)}"
        + (f", in each of {distributed.world_size()} processes" if distributed.world_size() > 1 else "")
    )
    if (ignored := fsdp.launchers_mixed_precision()) is not None:
        console.note(f"mixed_precision: {ignored} of accelerate's config has no effect; model.compute_dtype decides")
    tell_unusual_settings(config, total, len(inputs.data.examples))
    num_examples, num_validation = len(inputs.data.examples), len(inputs.validation.examples)
    interval = data_order.validation_interval(config.train, num_examples, num_validation)
    if config.train.early_stopping_patience is not None and (
        interval is None or interval >= data_order.num_steps(config.train, num_examples)
    ):
        why = "the validation split is empty" if interval is None else f"train.eval_steps is {interval}"
        console.warn(f"train.early_stopping_patience has no effect: {why}, so no loss is measured before the last step")
    optimizer = arguments.optimizer_on(config.train.optim, inputs.device)
    if optimizer != config.train.optim:
        why = "works on whole tensors" if distributed.is_sharded() else "needs a GPU"
        console.note(f"train.optim: {config.train.optim} {why}; {optimizer} computes the same steps here")


def tell_unusual_settings(config: Config, num_parameters: int, num_examples: int) -> None:
    """Note the settings that are far from what people train adapters with; what lies there has ruined models."""
    steps = data_order.num_steps(config.train, num_examples)
    for unusual in unusual_settings(config.lora, config.train, num_parameters, num_examples, steps):
        console.note(f"unusual: {unusual}")


def unusual_settings(
    lora: LoraConfig, train: TrainConfig, num_parameters: int, num_examples: int, num_steps: int
) -> list[str]:
    """Return what is unusual, each in a sentence with the usual range.

    Args:
        lora: section of the config.
        train: section of the config.
        num_parameters: of the base.
        num_examples: in the training split.
        num_steps: optimizer steps of the training.
    """
    notes, rate = [], train.learning_rate
    highest = next((limit for size, limit in _HIGHEST_LEARNING_RATES if num_parameters >= size), math.inf)
    if not _LOWEST_LEARNING_RATE <= rate <= highest:
        result = (
            "so low that next to nothing is learned" if rate < _LOWEST_LEARNING_RATE else "so high that models break"
        )
        billions = num_parameters >= 1e9
        size = f"{num_parameters / 1e9:.1f} billion" if billions else f"{num_parameters / 1e6:.0f} million"
        usual = "1e-5 or more" if math.isinf(highest) else f"1e-5 to {highest:g}"
        notes.append(f"train.learning_rate {rate:g} is {result}, as a rule: {usual} is usual on {size} parameters")
    scale = lora.lora_alpha / (math.sqrt(lora.r) if lora.use_rslora else lora.r)
    if not _SCALES[0] <= scale <= _SCALES[1]:
        by = "sqrt(r)" if lora.use_rslora else "r"
        notes.append(f"lora.lora_alpha / {by} is {scale:.3g}, the update's scale: 0.25 to 8 is usual")
    if lora.lora_dropout > 0.5:
        notes.append(f"lora.lora_dropout {lora.lora_dropout:g} drops most of the adapter's inputs; 0 to 0.1 is usual")
    if train.weight_decay > 1:
        notes.append(f"train.weight_decay {train.weight_decay:g} pulls the adapter back to 0; 0 to 0.1 is usual")
    if 0 < train.max_grad_norm < 0.01:
        notes.append(f"train.max_grad_norm {train.max_grad_norm:g} makes every step tiny; 0.3 to 1 is usual")
    warms_up = train.lr_scheduler_type not in ("constant", *SCHEDULERS_THAT_WATCH)
    if warms_up and train.warmup_ratio > 0.5:
        steps = math.ceil(train.warmup_ratio * num_steps)
        notes.append(
            f"train.warmup_ratio {train.warmup_ratio:g}: the learning rate rises for {steps} of {num_steps} steps"
        )
    rows = num_steps * data_order.examples_per_step(train)
    if train.max_steps > 0 and rows < _LEAST_SHARE_OF_ROWS * num_examples:
        notes.append(f"train.max_steps {train.max_steps}: {rows:,} of {num_examples:,} training rows are seen")
    return notes
