"""The models that the checks try: a tiny Llama, and the config's own architecture, both with random weights on disk.

The own architecture has one layer of each kind that the base has, two at least, heads of the base's size, and less of
all else, so that a CPU tries it in seconds. What is tried is loaded from files, by the code that loads a real base.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from medqa_cli.config.schema import Config, DataConfig, GenerateConfig, PromptConfig
from medqa_cli.data.dataset import SPLITS
from medqa_cli.doctor.finding import NotChecked
from medqa_cli.errors import MedqaError, first_line
from medqa_cli.files import RunFolder
from medqa_cli.model.kernels.verify import Way
from medqa_cli.model.load import heads_of, load_config, quiet_libraries
from medqa_cli.model.resolve import find_base, gguf_file
from medqa_cli.training import setup

TINY = "tiny Llama"
_MOST_PARAMETERS = 60_000_000
_VOCABULARY = 384
# What configs call the sizes that are made smaller, and the most that they may be.
_MOST = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
    "vocab_size_per_layer_input": _VOCABULARY,
}
_MOST_GROUPS, _MOST_IN_A_GROUP = 2, 2
_SPECIAL_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SPREAD = 0.05  # of random weights: large enough that answers depend on the question
_SYLLABLES = ("ba", "co", "di", "fe", "gu", "ka", "lo", "mi", "nu", "pe", "ra", "so", "ti", "vu")


@dataclass(frozen=True)
class Subject:
    """A model to try, in a folder with data and a run of its own.

    ``name``: for people; ``config``: the user's, with the model, data and run of the folder, and a short training.
    """

    name: str
    config: Config
    device: torch.device
    dtype: torch.dtype

    @property
    def run(self) -> RunFolder:
        """The folder that a training writes to."""
        return self.config.run

    @property
    def base_dir(self) -> Path:
        """The folder of the base."""
        return Path(str(self.config.model.name_or_path))

    @cached_property
    def inputs(self) -> setup.TrainingInputs:
        """Base and encoded data, as a training prepares them."""
        return setup.prepare(self.config, self.device, self.dtype)

    def model(self, **lora: Any) -> Any:
        """Load base and adapter as a training does; the adapter has an effect. ``lora``: changes of its settings."""
        config = replace(self.config, lora=replace(self.config.lora, **lora))
        model = setup.make_model(replace(self.inputs, config=config))
        generator = torch.Generator().manual_seed(7)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ("lora_B" in name or "lora_embedding_B" in name):
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * _SPREAD)
        return model

    def settled(self, **lora: Any) -> tuple[Any, Way]:
        """Return the model, computing in the way that a training takes, and that way."""
        model = self.model(**lora)
        return model, setup.settle_way_for_training(model, self.inputs)


def tiny_subject(config: Config, folder: Path, device: torch.device, dtype: torch.dtype) -> Subject:
    """Make the tiny Llama, with grouped attention."""
    from transformers import LlamaConfig

    shape = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        **_SPECIAL_IDS,
    )
    return _made(
        TINY, shape, replace(config, lora=replace(config.lora, target_modules="all-linear")), folder, device, dtype
    )


def own_subject(config: Config, folder: Path, device: torch.device, dtype: torch.dtype) -> Subject:
    """Make a small model of the config's own architecture.

    Raises:
        NotChecked: there is none, or it cannot be made small.
    """
    name = config.model.name_or_path
    if name is None:
        raise NotChecked("model.name_or_path is not set, so that there is no architecture of your own to try")
    try:
        quiet_libraries()
        path = gguf_file(name)
        if path is not None:  # its header says all; turning it into a folder takes half a minute
            from transformers import AutoConfig

            hf_config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        else:
            source = find_base(name, config.model.revision)
            hf_config = load_config(source.location, source.revision)
    except MedqaError as error:
        raise NotChecked(f"the description of {name} is not here: {error.message}") from error
    kind = str(hf_config.get_text_config().model_type)
    try:
        return _made(f"small {kind}", reduced(hf_config), config, folder, device, dtype)
    except NotChecked:
        raise
    except Exception as error:  # whatever an architecture raises with sizes that it was not made for; full memory too
        raise NotChecked(f"{kind} cannot be made small: {first_line(error)}") from error


def reduced(hf_config: Any) -> Any:
    """Return the config of a small model of the same architecture: its text model, one layer of each kind."""
    text = copy.deepcopy(hf_config.get_text_config())
    count = int(text.num_hidden_layers)
    lists = {
        name: list(value)
        for name, value in vars(text).items()
        if isinstance(value, list | tuple) and len(value) == count
    }
    kinds = [repr([values[index] for values in lists.values()]) for index in range(count)]
    chosen = sorted({kinds.index(kind) for kind in kinds})
    chosen = chosen if len(chosen) > 1 else list(range(min(2, count)))
    text.num_hidden_layers = len(chosen)
    for name, values in lists.items():
        with contextlib.suppress(AttributeError):  # where it follows from the number of layers
            setattr(text, name, [values[index] for index in chosen])
    heads, groups, head_dim = heads_of(text)
    few_groups = min(groups, _MOST_GROUPS)
    few_heads = few_groups * min(heads // groups, _MOST_IN_A_GROUP)
    sizes = {
        "num_attention_heads": few_heads,
        "num_key_value_heads": few_groups,
        "head_dim": head_dim,
        "hidden_size": few_heads * head_dim,
        "intermediate_size": 2 * few_heads * head_dim,
        "vocab_size": _VOCABULARY,
        **_SPECIAL_IDS,
    }
    for name, size in sizes.items():
        if getattr(text, name, None) is not None or name in _SPECIAL_IDS:
            setattr(text, name, size)
    for name, value in list(vars(text).items()):
        if "drop" in name and isinstance(value, float):  # of its own, as GPT-2's: a step has to be one that is repeated
            setattr(text, name, 0.0)
    for name, most in _MOST.items():
        if isinstance(value := getattr(text, name, None), int) and not isinstance(value, bool):
            setattr(text, name, min(value, most))
    return text


def _made(name: str, shape: Any, config: Config, folder: Path, device: torch.device, dtype: torch.dtype) -> Subject:
    base_dir, data_dir = folder / "base", folder / "data"
    _write_base(shape, base_dir)
    write_data(data_dir)
    small = Config(
        run_dir=str(folder / "run"),
        seed=config.seed,
        data=DataConfig(dir=str(data_dir)),
        prompt=PromptConfig(template="plain", system=None),
        model=replace(config.model, name_or_path=str(base_dir), revision=None, max_length=256),
        # Of a rank that fits small layers, from PEFT's own start.
        lora=replace(config.lora, r=min(config.lora.r, 8), init_lora_weights="default"),
        train=replace(
            config.train,
            max_steps=3,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=0.01,
            lr_scheduler_type="constant",
            save_steps=3,
            logging_steps=1,
            eval_steps=None,
            save_total_limit=1,
            early_stopping_patience=None,
            report_to="none",
        ),
        generate=GenerateConfig(engine="transformers", max_new_tokens=12, loop_retries=0),
    )
    return Subject(name, small, device, dtype)


def _write_base(shape: Any, folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    quiet_libraries()
    with torch.device("meta"):
        full = AutoModelForCausalLM.from_config(copy.deepcopy(shape), trust_remote_code=False)
        size = sum(p.numel() for p in full.parameters())
    if size > _MOST_PARAMETERS:
        raise NotChecked(f"{shape.model_type} stays too large however small its config: {size:,} parameters")
    with torch.random.fork_rng([]):
        torch.manual_seed(11)
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.float32, trust_remote_code=False)
        generator = torch.Generator().manual_seed(12)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * _SPREAD)
            # The same numbers in every type that the base may be loaded in.
            parameter.data.copy_(parameter.data.bfloat16())
        model.save_pretrained(folder)
    # A tokenizer of single bytes: no text is too odd for it, and no file is needed.
    pieces = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>"
    ).save_pretrained(folder)


def write_data(folder: Path, rows: int = 8, words: int = 4) -> None:
    """Write splits of made-up words, in answers of different lengths.

    Args:
        folder: of the data.
        rows: of the training split.
        words: of the shortest answer and its question.
    """
    folder.mkdir(parents=True)
    numbers = random.Random(3)
    for split in SPLITS:
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for number in range(rows if split == "train" else 3):
                length = words + 2 * (number % 8)
                said = ["".join(numbers.choices(_SYLLABLES, k=numbers.randint(1, 4))) for _ in range(length)]
                row = {
                    "id": f"{split}-{number}",
                    "question": f"What is {said[0]} {said[1]}?",
                    "answer": f"{' '.join(said[2:]).capitalize()}.",
                    "topic": said[0],
                    "source": "doctor",
                }
                file.write(json.dumps(row) + "\n")
