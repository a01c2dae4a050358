"""The model card, ``README.md`` of an adapter folder: front matter for the hub, what was trained, how to load it.

Says only what settings and figures say: no text of the data, no path of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from medqa_cli.config.schema import LoraConfig, ModelConfig, TrainConfig
from medqa_cli.markdown import code_block, escaped, file_name, table
from medqa_cli.model.resolve import ModelRef
from medqa_cli.prompt.encoder import PromptContract

PLACEHOLDER = "PATH/OF/THE/BASE/MODEL"
_QUESTION = "How to treat glaucoma?"
# Settings in which runs differ; all of them stand in the run's config.yaml.
_TRAIN_KEYS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)
_LORA_KEYS = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "bias")
_USE = """\
A research artefact: an adapter that was tuned on questions and answers on health. **It is not a medical device and not
for clinical use.** Its answers are wrong at times, sometimes dangerously, in fluent sentences. Nobody with medical
training has checked them. Do not use them for the care of a person."""


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    ``summary``: the content of ``train.json``; ``data``: the content of the data folder's ``report.json``, None where
    there is none; ``environment``: that of ``environment.json``; ``compute_dtype``: name of the type of the products.
    """

    source: ModelRef
    contract: PromptContract
    model: ModelConfig
    lora: LoraConfig
    train: TrainConfig
    seed: int
    compute_dtype: str
    summary: Mapping[str, Any]
    data: Mapping[str, Any] | None
    environment: Mapping[str, Any]


def model_card(facts: CardFacts) -> str:
    """Return the text of ``README.md``."""
    base = escaped(_base_name(facts.source))
    parts = [
        f"# Adapter of {base} for medical questions",
        _USE,
        "## How to use it",
        *_how_to_load(facts),
        "## Data",
        *_data(facts),
        "## Training",
        _settings(facts),
        "## Figures",
        _figures(facts.summary),
        "These are losses of the training itself. How good the answers to questions held out from training are, "
        "`medqa eval` measures beside the base model, with intervals.",
        "## Limits",
        "It knows what its base model and its data know, mistakes and gaps of both included, and nothing newer. It was "
        "trained to answer single questions, not to hold a conversation. Likelihood of reference answers says little "
        "about medical correctness.",
        _made_by(facts.environment),
    ]
    return f"---\n{_front_matter(facts)}---\n\n" + "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts) -> str:
    front: dict[str, Any] = {"library_name": "peft", "pipeline_tag": "text-generation"}
    tags = ["lora", "medical", "medqa-cli"]
    # The hub takes nothing but its own ids here.
    if facts.source.kind == "hub":
        front["base_model"] = facts.source.name
        tags.append(f"base_model:adapter:{facts.source.name}")
    return yaml.safe_dump({**front, "tags": tags}, sort_keys=False, allow_unicode=True, width=10_000)


def _base_name(source: ModelRef) -> str:
    return source.name if source.kind == "hub" else file_name(source.name)


def _how_to_load(facts: CardFacts) -> list[str]:
    name = _base_name(facts.source)
    text = [
        "With medqa: `medqa ask`. With plain PEFT, in this folder (the prompt is the one that it was tuned on, see "
        "`prompt.json`; the tokenizer's chat template is the base model's own where it has one):",
        code_block(_loading_code(facts), "python"),
    ]
    if facts.source.kind == "folder":
        text.append(f"The base is a folder on the machine of the training, `{escaped(name)}`: put your copy's path.")
    if facts.source.kind == "gguf":
        text.append(
            f"The base is the file `{escaped(name)}`: dequantize it first, with `AutoModelForCausalLM.from_pretrained("
            "FOLDER, gguf_file=NAME, quantization_config=GgufConfig(dequantize=True)).save_pretrained(...)`."
        )
    return text


def _loading_code(facts: CardFacts) -> str:
    """Return a program that loads base and adapter and answers one question; a test runs it."""
    contract, model = facts.contract, facts.model
    base = facts.source.name if facts.source.kind == "hub" else PLACEHOLDER
    arguments = [repr(base), *([f"revision={facts.source.revision!r}"] if facts.source.revision else [])]
    arguments.append(f"dtype=torch.{facts.compute_dtype}")
    quantized = _quantization_code(model, facts.compute_dtype)
    if quantized:
        arguments.append(f"quantization_config={quantized}")
    before, after = contract.text.before_question, contract.text.after_question
    return f"""\
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer{", BitsAndBytesConfig" if quantized else ""}

base = AutoModelForCausalLM.from_pretrained(
    {(chr(10) + "    ").join(f"{argument}," for argument in arguments)}
)
model = PeftModel.from_pretrained(base, ".").eval()
tokenizer = AutoTokenizer.from_pretrained(".")

prompt = {before!r} + {_QUESTION!r} + {after!r}
inputs = tokenizer(prompt, add_special_tokens={contract.adds_bos}, return_tensors="pt").to(model.device)
stop = {list(contract.stop_token_ids)}
output = model.generate(**inputs, max_new_tokens=256, do_sample=False, eos_token_id=stop, pad_token_id=stop[0])
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def _quantization_code(model: ModelConfig, compute_dtype: str) -> str:
    if model.quantization == "none":
        return ""
    if model.quantization == "int8":
        return "BitsAndBytesConfig(load_in_8bit=True)"
    return (
        f'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="{model.quantization}", '
        f"bnb_4bit_use_double_quant={model.double_quantization}, bnb_4bit_compute_dtype=torch.{compute_dtype})"
    )


def _data(facts: CardFacts) -> list[str]:
    summary = facts.summary
    counts = (
        f"{summary['num_train_examples']:,} training examples; {summary['num_train_tokens']:,} tokens went through the "
        f"model; {summary['num_truncated_answers']:,} answers were cut to {facts.model.max_length} tokens; "
        f"{summary['num_validation_examples']:,} held-out questions watched the training."
    )
    if not facts.data:
        return [counts]
    source = facts.data["source"]
    files = source.get("files") or [source]
    rows = [(escaped(file_name(file["path"])), file["sha256"] or "") for file in files[:20]]
    splits = facts.data["splits"]
    return [
        table(("source", "SHA-256"), rows),
        f"{facts.data['rows']['kept']:,} rows after cleaning; split by topic into "
        + ", ".join(f"{count:,} {name}" for name, count in splits.items())
        + ". The texts themselves are not part of this folder.",
        counts,
    ]


def _settings(facts: CardFacts) -> str:
    contract, summary = facts.contract, facts.summary
    rows = [
        ("base model", escaped(_base_name(facts.source) + (f" @ {facts.model.revision}" * bool(facts.model.revision)))),
        ("quantization of the base", _quantization(facts.model)),
        ("products computed in", facts.compute_dtype),
        ("LoRA", ", ".join(f"{key} {escaped(_value(getattr(facts.lora, key)))}" for key in _LORA_KEYS)),
        ("prompt template", f"{escaped(file_name(contract.text.template))}; system line: {_system(contract)}"),
        *((key, escaped(_value(getattr(facts.train, key)))) for key in _TRAIN_KEYS),
        ("optimizer steps", f"{summary['global_step']:,}"),
        ("weights saved are those after step", f"{summary['adapter_step']:,}"),
        ("seed", str(facts.seed)),
        ("trained on", escaped(facts.environment["device"])),
    ]
    return table(("setting", "value"), rows)


def _quantization(model: ModelConfig) -> str:
    double = model.double_quantization and model.quantization in ("nf4", "fp4")
    return model.quantization + (", constants quantized too" if double else "")


def _system(contract: PromptContract) -> str:
    return escaped(contract.text.system) if contract.text.system else "none"


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _figures(summary: Mapping[str, Any]) -> str:
    rows = []
    if summary["train_loss"]:
        rows.append(("training loss, first and last", " and ".join(f"{loss:.4f}" for loss in summary["train_loss"])))
    if summary["validation_loss"]:
        before, best, last = summary["validation_loss"]
        rows += [
            ("validation loss of the base model", f"{before:.4f}"),
            ("validation loss, best look", f"{best:.4f}"),
            ("validation loss, last look", f"{last:.4f}"),
        ]
    rows += [
        ("tokens per second", f"{summary['tokens_per_second']:,.0f}"),
        ("peak memory", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"),
        ("time", f"{summary['seconds']:,.0f} s"),
    ]
    return "Losses in nats per answer token.\n\n" + table(("figure", "value"), rows)


def _made_by(environment: Mapping[str, Any]) -> str:
    versions = environment["packages"]
    names = ("torch", "transformers", "peft", "bitsandbytes")
    others = ", ".join(f"{name} {escaped(versions[name])}" for name in names if name in versions)
    return f"Made by medqa {escaped(versions.get('medqa-cli', ''))} with {others}."
