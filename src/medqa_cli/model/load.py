"""Loads models and tokenizers: a base, a trained adapter on its base, or what ``--model`` names (``load_model``)."""

import copy
import logging
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console, hub
from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import MERGE_FILE_NAME, RunFolder
from medqa_cli.model import devices, experts, lora, quantization
from medqa_cli.model.checks import adapter as adapter_checks
from medqa_cli.model.checks import loaded_weights, model_files
from medqa_cli.model.checks.loading import loading
from medqa_cli.model.kernels import attention, chunked_cross_entropy
from medqa_cli.model.kernels.verify import settle_way
from medqa_cli.model.resolve import ModelRef, base_folder, described_folder, find_base
from medqa_cli.model.weights import WeightFiles, adapter_file, check_weight_files, tensors_of_file
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract, make_contract
from medqa_cli.prompt.encoder import PromptEncoder

_OTHER_BASE = "it was trained on another base, or on one with a resized vocabulary: take that one"


@dataclass
class LoadedModel:
    """A model in memory with the encoder of its prompts.

    ``name``: as it was chosen; ``source``: its base, or itself without an adapter; ``dtype``: of its matrix products;
    ``quantization``: of its frozen weights.
    """

    name: str
    source: ModelRef
    model: Any
    encoder: PromptEncoder
    device: torch.device
    dtype: torch.dtype
    quantization: str = "none"


def load_model(
    choice: str,
    run: RunFolder,
    config: ModelConfig,
    prompt: PromptConfig,
    *,
    packed: bool = False,
    batches: bool = False,
) -> LoadedModel:
    """Load the model that ``--model`` names.

    Args:
        choice: ``adapter`` or ``merged`` of the run, ``base`` of the config, or the path or hub id of a model, or the
            path of an adapter.
        run: the run.
        config: quantization and number type, as ``quantized_how`` says.
        prompt: how a model is asked that has no prompt contract beside it.
        packed: for likelihoods (padding-free forward passes) rather than for generation.
        batches: for generation of many answers at once.

    Raises:
        InputError: it is not there; the message says which command makes it.
    """
    hub.name_repository(config.name_or_path)
    device = devices.pick_device()
    dtype = devices.pick_compute_dtype(config.compute_dtype, device)
    adapter_dir = run.adapter_dir if choice == "adapter" else Path(choice)
    has_adapter = (adapter_dir / adapter_checks.ADAPTER_CONFIG_NAME).is_file()
    is_tuned = choice == "adapter" or (has_adapter and choice not in ("base", "merged"))
    if is_tuned:
        source = base_of_adapter(adapter_dir)
        if config.name_or_path not in (None, source.name):
            console.warn(
                f"the adapter was trained on {source.name}, which is used; model.name_or_path is {config.name_or_path}"
            )
        contract = PromptContract.load(adapter_dir)
        tokenizer = load_tokenizer(str(adapter_dir))
    else:
        source = _find_untuned(choice, run, config)
        tokenizer = load_tokenizer(source.location, source.revision)
        # A merged model has its contract beside it; a base is asked as the run's adapter is.
        folders = [f for f in (Path(source.location), run.adapter_dir) if (f / PROMPT_FILE_NAME).is_file()]
        contract = PromptContract.load(folders[0]) if folders else make_contract(prompt, tokenizer)
    model = load_base(source, quantized_how(choice, config), device, dtype, packed=packed, batches=batches)
    if is_tuned:
        model = load_adapter(model, adapter_dir)
    if packed:
        settle_way(model, source.name, dtype, trains=False, fuses=is_tuned)
    encoder = PromptEncoder(contract, tokenizer, num_embeddings(model.config))
    return LoadedModel(choice, source, model, encoder, device, dtype, quantized_how(choice, config).quantization)


def _find_untuned(choice: str, run: RunFolder, config: ModelConfig) -> ModelRef:
    if choice == "base":
        return find_base(config.name_or_path, config.revision)
    if choice == "merged" and not run.merged_dir.is_dir():
        raise InputError(f"no merged model in {run.merged_dir}", "make one: medqa merge")
    return find_base(str(run.merged_dir) if choice == "merged" else choice, named_by="--model")


def quantized_how(choice: str, config: ModelConfig) -> ModelConfig:
    """Return how a model is quantized when it is asked or measured: as the config says, and a merged one not at all.

    Merged weights, the run's or another folder that ``medqa merge`` wrote, are loaded as other tools load them. (What
    an adapter was *trained* on is in ``environment.json``.)
    """
    is_path = choice not in ("adapter", "base")
    is_merged = choice == "merged" or (is_path and (Path(choice) / MERGE_FILE_NAME).is_file())
    return ModelConfig(quantization="none") if is_merged else config


def quiet_libraries() -> None:
    """Silence the notices and bars of libraries: medqa says itself what it is doing. Nor may they fetch programs."""
    hub.forbid_kernels()
    # On import, on CPUs with AVX512-BF16, it says that a package is absent which medqa does without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    hub.ask_only_what_is_named()


def load_tokenizer(location: str, revision: str | None = None) -> Any:
    """Load the tokenizer of a hub id or folder.

    Raises:
        InputError: there is none, or it is damaged or cannot be used.
    """
    from transformers import AutoTokenizer

    quiet_libraries()
    folder = described_folder(location, revision, "tokenizer")
    if (folder / model_files.CONFIG_NAME).is_file():
        model_files.check_config(folder)  # Transformers reads it for the tokenizer as well
    model_files.check_tokenizer(folder)
    with loading("tokenizer", location):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        # Some values are only read when it is used.
        tokenizer.decode(tokenizer("How are you?")["input_ids"])
    return tokenizer


def load_config(location: str, revision: str | None = None) -> Any:
    """Load the Transformers config of the model in a hub id or folder.

    Raises:
        InputError: there is none, or it is damaged or does not go with the weight files.
    """
    from transformers import AutoConfig

    quiet_libraries()
    folder = described_folder(location, revision, "config")
    model_files.check_config(folder)
    with loading("config", location):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        model_files.check_layer_types(folder, config.get_text_config())
    return config


def num_embeddings(hf_config: Any) -> int | None:
    """Return how many token ids a model has embeddings for, as its config says; None: it does not say."""
    size = getattr(hf_config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None


def heads_of(text_config: Any) -> tuple[int, int, int]:
    """Return the attention heads of a language model, its heads of keys and values, and the size of each."""
    heads = int(text_config.num_attention_heads)
    head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
    return heads, int(getattr(text_config, "num_key_value_heads", None) or heads), int(head_dim)


def load_base(
    source: ModelRef,
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    packed: bool,
    batches: bool = False,
    sharded: bool = False,
) -> Any:
    """Load the frozen base model on one device.

    Args:
        source: where it lies.
        config: precision of the weights.
        device: where it goes.
        dtype: type of the unquantized tensors and of the matrix products.
        packed: for padding-free forward passes (training, likelihoods) rather than for generation, of several examples
            at once where the architecture takes that; whether its numbers are right then is to be proven (``verify``).
        batches: for generation, of many answers at once.
        sharded: leave it in host memory, in a form that FSDP can divide among devices, which takes each layer
            from there.

    Returns:
        A Transformers causal language model in eval mode; no parameter requires a gradient.

    Raises:
        InputError: the model is not there, cannot be loaded, lacks weights, has some that are not numbers, or would be
            computed wrongly on this CPU.
    """
    quiet_libraries()
    if config.quantization != "none":
        quantization.require_bitsandbytes(config.quantization)
    hf_config = load_config(source.location, source.revision)
    quantization.refuse_other_quantization(hf_config, config, source.name)
    model = _with_weights(hf_config, source, config, "cpu" if sharded else str(device), dtype, sharded=sharded)
    model.requires_grad_(False)
    if config.quantization != "none" and device.type == "cpu" and not sharded:
        quantization.release_weight_file(model)
    if device.type == "cpu" and getattr(model, "is_loaded_in_4bit", False):
        quantization.refuse_rows_dequantized_wrongly(model, source.name)
    if packed:
        quantization.keep_weights_differentiable(model)
        chunked_cross_entropy.install_answer_losses(model)
        attention.use_packed_attention(model)
    elif quantization.gains_from_dequantizing(model, device, dtype, batches=batches):
        quantization.dequantize_layers(model, dtype)
    return model.eval()


def _with_weights(
    hf_config: Any, source: ModelRef, config: ModelConfig, device: str, dtype: torch.dtype, *, sharded: bool
) -> Any:
    """Let Transformers load a model, and check that it has the weights of its files."""
    from transformers import AutoModelForCausalLM

    folder = base_folder(source)
    check_weight_files(folder)
    # Watching imports bitsandbytes, which takes a second and is not needed for whole weights.
    is_plain = config.quantization == "none"
    watching = nullcontext() if is_plain else loaded_weights.watching_quantization()
    separating = nullcontext() if is_plain else experts.loading_separate_experts(WeightFiles.open(folder).tensors)
    with (
        console.status(f"loading {source.name} ..."),
        loading("model", source.location),
        separating,
        watching as weights,
    ):
        return loaded_weights.load_whole(
            AutoModelForCausalLM,
            folder,
            source.name,
            weights,
            dtype=dtype,
            device_map={"": device},
            quantization_config=quantization.quantization_config(config, dtype, sharded=sharded),
            attn_implementation=attention.own_attention(hf_config),
            local_files_only=True,
        )


def empty_base(hf_config: Any, config: ModelConfig, dtype: torch.dtype) -> Any:
    """Build the base as ``load_base`` does, on the meta device: its layers and the sizes of their weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(
            copy.deepcopy(hf_config),  # it notes there what it made of it
            dtype=dtype,
            attn_implementation=attention.own_attention(hf_config),
            trust_remote_code=False,
        )
        if dtype == torch.float32:
            experts.separate_experts(base)  # PyTorch has no sizes for products with joined ones in this type
        quantization.quantize_without_content(base, config, dtype)
    return base


def load_adapter(model: Any, adapter_dir: Path) -> Any:
    """Put a trained adapter on its base.

    Raises:
        InputError: the adapter does not fit the base or is damaged.
    """
    from peft import PeftModel

    config = adapter_checks.read_adapter_config(adapter_dir)
    adapter_checks.refuse_endless_patterns(config, [name for name, _ in model.named_modules()], adapter_dir)
    # PEFT first makes matrices of whatever size the config says, and takes a folder without a file of weights for a
    # repository of the hub.
    shapes = {tensor.name: tensor.shape for tensor in tensors_of_file(adapter_file(adapter_dir))}
    ranks = {shape[0] for name, shape in shapes.items() if shape and ("lora_A" in name or "lora_embedding_A" in name)}
    most = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    if ranks and most > max(ranks):
        raise InputError(
            f"the adapter in {adapter_dir} contradicts itself: its config speaks of rank {most:,}, its matrices "
            f"have {max(ranks):,} at most",
            "restore adapter_config.json, or train again",
        )
    with loading("adapter", adapter_dir, _OTHER_BASE), warnings.catch_warnings():
        # ``check_effect`` makes an error of it.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        adapted = PeftModel.from_pretrained(model, str(adapter_dir)).eval()
    lora.refuse_dora_on_int8_cpu(model, adapted.peft_config["default"].use_dora)
    with loading("adapter", adapter_dir, _OTHER_BASE):
        adapter_checks.check_effect(adapted, adapter_dir)
    return adapted


def base_of_adapter(adapter_dir: Path) -> ModelRef:
    """Find the base model that an adapter was trained on.

    Raises:
        InputError: there is no adapter, or its base is not there.
    """
    config = adapter_checks.read_adapter_config(adapter_dir)
    name = config.get("base_model_name_or_path")
    if not name:
        path = adapter_dir / adapter_checks.ADAPTER_CONFIG_NAME
        raise InputError(f"{path} is damaged: it names no base model", "train again, or restore the file")
    return find_base(name, config.get("revision"), named_by=f"the base that {adapter_dir} names", by_user=False)
