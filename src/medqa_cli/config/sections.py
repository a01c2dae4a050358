"""The sections of the configuration as frozen dataclasses: names, types, defaults, ranges, one sentence on each key.

The names are those of Transformers and PEFT. The defaults are the settings of the run that medqa takes over (a QLoRA
of Llama-2-7B on one 16 GB T4, mid 2024) wherever that run had a setting. Does not read files: see ``reader``.
"""

# ruff: noqa: RUF009 -- setting() is dataclasses.field() under another name, it shares no value between instances.

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args

Template = str
Quantization = Literal["nf4", "fp4", "int8", "none"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
Split = Literal["train", "validation", "test"]


def setting(
    default: Any = MISSING,
    doc: str = "",
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    planned: bool = False,
) -> Any:
    """Declare one key.

    Args:
        default: the value when neither the file nor ``--set`` gives one; a callable is a factory.
        doc: one sentence with the unit and what special values mean.
        at_least: inclusive lower bound of a number.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        planned: the key belongs to the contract but nothing acts on it yet, so that setting it is refused.
    """
    metadata = {
        "doc": doc,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
        "planned": planned,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataConfig:
    """Where questions and answers come from and how they are split."""

    source: str | tuple[str, ...] | None = setting(
        None,
        "The spreadsheet: CSV, TSV, Excel, JSON, JSONL, Parquet, a folder or archive of these or of MedQuAD XML, a hub "
        "data set id, or a list of such. `medqa convert SOURCE` overrides it.",
    )
    question_column: str | None = setting(None, "Column that holds the question; null: found by its name.")
    answer_column: str | None = setting(None, "Column that holds the answer; null: found by its name.")
    topic_column: str | None = setting(
        None,
        "Column that holds the topic (the disease); rows of one topic stay in one split. "
        "null: found by its name, else taken from the question.",
    )
    dir: str = setting("data/medqa", "Folder that `medqa convert` writes and the other commands read.")
    cleaning: dict[str, bool] = setting(dict, "Cleaning rules to switch on or off by name, e.g. {whitespace: false}.")
    validation_fraction: float = setting(0.05, "Share of the rows held out to watch the training.", at_least=0, below=1)
    test_fraction: float = setting(0.1, "Share of the rows held out for `medqa eval`.", at_least=0, below=1)
    near_duplicate_threshold: float = setting(
        0.8,
        "Jaccard similarity of runs of five words from which two answers count as near copies; "
        "those of held-out answers are left out of train.",
        at_least=0.1,
        at_most=1,
    )
    max_rows: int | None = setting(None, "Keep at most this many rows, drawn by the seed; null: all.", at_least=1)
    max_copies_of_an_answer: int | None = setting(
        20, "Reject further rows once this many carry the same answer; null: no limit.", at_least=1
    )
    paraphrases_per_question: int = setting(
        0, "Further wordings of each training question, as people ask; 0: none.", at_least=0
    )


@dataclass(frozen=True)
class PromptConfig:
    """How a question is put to the model."""

    template: Template = setting(
        "llama2", "llama2, chat (the tokenizer's own chat template), alpaca, plain, or the path of a Jinja file."
    )
    system: str | None = setting("Answer the Question", "System line of the prompt; null: none.")


@dataclass(frozen=True)
class ModelConfig:
    """The base model and the precision it is held in."""

    name_or_path: str | None = setting(
        None, "Hub id, folder, .gguf file, or package:PACKAGE/FILE.gguf for a file that a Python package ships."
    )
    revision: str | None = setting(None, "Branch, tag or commit on the hub; null: the default branch.")
    quantization: Quantization = setting("nf4", "Precision of the frozen base weights: nf4, fp4, int8 or none.")
    double_quantization: bool = setting(False, "Quantize the quantization constants too (saves 0.4 bit a weight).")
    compute_dtype: ComputeDtype = setting(
        "auto", "Type of the matrix products; auto: bfloat16 where the device has it, else float16."
    )
    max_length: int = setting(
        1024, "Longest prompt plus answer in training, in tokens; longer answers are cut.", at_least=8
    )


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: low-rank matrices beside frozen weights (Hu et al. 2021, arXiv 2106.09685)."""

    r: int = setting(64, "Rank of the update.", at_least=1)
    lora_alpha: float = setting(16, "Scale: the update is multiplied by lora_alpha / r.", above=0)
    lora_dropout: float = setting(0.1, "Dropout on the adapter's input.", at_least=0, below=1)
    target_modules: Literal["auto", "all-linear"] | tuple[str, ...] = setting(
        "auto", "Layers that get an adapter; auto: PEFT's choice for the architecture (q_proj and v_proj in Llama)."
    )
    use_rslora: bool = setting(False, "Scale by lora_alpha / sqrt(r) instead (arXiv 2312.03732).")
    use_dora: bool = setting(False, "Learn magnitude and direction apart (DoRA, arXiv 2402.09353).")
    init_lora_weights: Literal["default", "loftq", "pissa"] = setting(
        "default",
        "What the adapter starts from: default: no change; loftq: what 4 bits took away (arXiv 2310.08659); "
        "pissa: the main directions of unquantized weights (arXiv 2404.02948).",
    )
    bias: Literal["none", "all", "lora_only"] = setting("none", "Which bias vectors are trained.")


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation; names and meanings are those of ``transformers.TrainingArguments``."""

    num_train_epochs: float = setting(1.0, "Passes over the training split.", above=0)
    max_steps: int = setting(-1, "Stop after this many optimizer steps; -1: by num_train_epochs.", at_least=-1)
    per_device_train_batch_size: int = setting(2, "Examples per device and accumulation step.", at_least=1)
    gradient_accumulation_steps: int = setting(4, "Accumulation steps per optimizer step.", at_least=1)
    gradient_checkpointing: Literal["auto"] | bool = setting(
        True, "Recompute activations to save memory; auto: on a GPU whose memory is not plentiful."
    )
    learning_rate: float = setting(2e-4, "Peak learning rate.", above=0)
    lr_scheduler_type: str = setting("constant", "Transformers' name of the schedule: constant, cosine, linear, ...")
    warmup_ratio: float = setting(0.03, "Share of the steps with rising learning rate.", at_least=0, at_most=1)
    weight_decay: float = setting(0.001, "Decoupled weight decay.", at_least=0)
    max_grad_norm: float = setting(0.3, "Gradients are scaled down to this norm; 0: never.", at_least=0)
    optim: str = setting("paged_adamw_32bit", "Transformers' name of the optimizer.")
    save_steps: int = setting(75, "Optimizer steps between checkpoints.", at_least=1)
    logging_steps: int = setting(75, "Optimizer steps between logged lines.", at_least=1)
    eval_steps: int | None = setting(
        None, "Optimizer steps between looks at the validation split; null: only before and after.", at_least=1
    )
    save_total_limit: int | None = setting(
        None, "Keep only the newest checkpoints, and that of the best validation loss; null: all.", at_least=1
    )
    early_stopping_patience: int | None = setting(
        None,
        "Stop after this many looks without a better validation loss, and keep the best look's adapter rather than "
        "the last step's; null: never.",
        at_least=1,
    )
    max_tokens_per_forward: Literal["auto"] | int = setting(
        "auto", "Tokens in one padding-free forward; auto: as many as are fast and fit the memory at hand.", at_least=1
    )
    report_to: str = setting("none", "Experiment tracker: none, tensorboard, wandb, mlflow or trackio.")


@dataclass(frozen=True)
class GenerateConfig:
    """How answers are decoded."""

    max_new_tokens: int = setting(512, "Longest answer, in tokens; the prompt does not count.", at_least=1)
    temperature: float = setting(0.0, "0: always the likeliest token; higher: more variety.", at_least=0)
    top_p: float = setting(1.0, "Sample among the likeliest tokens of this total probability.", above=0, at_most=1)
    repetition_penalty: float = setting(1.0, "Above 1 discourages repetition and hides the fault; 1: off.", above=0)
    no_repeat_ngram_size: int = setting(0, "Forbid repeated n-grams of this length; 0: off.", at_least=0)
    batch_size: Literal["auto"] | int = setting(
        "auto", "Questions of a file that are answered at once; auto: up to 64, as the free memory bears.", at_least=1
    )


@dataclass(frozen=True)
class MultipleChoiceSet:
    """One multiple-choice file to score."""

    name: str = setting("", "Name in the report.")
    path: str = setting("", "File in the public format of PubMedQA, MedMCQA or MedQA.")


MetricName = Literal[
    "nll",
    "bits_per_byte",
    "rouge1",
    "rouge2",
    "rougeL",
    "chrf",
    "bleu",
    "topic_coverage",
    "reference_swap_margin",
    "seq_rep_4",
    "loop_rate",
    "finished_rate",
    "length_ratio",
    "prompt_echo_rate",
]


@dataclass(frozen=True)
class EvalConfig:
    """What `medqa eval` measures."""

    split: Split = setting("test", "Split that is scored.")
    batch_size: int = setting(
        8, "Questions in one forward of the likelihood; answers are generated for four times as many.", at_least=1
    )
    metrics: Literal["all"] | tuple[MetricName, ...] = setting(
        "all",
        "Figures to compute. All but nll (nats per answer token) and bits_per_byte need answers to be generated, which "
        "is slow on a CPU: [nll, bits_per_byte] leaves that out.",
    )
    bootstrap_draws: int = setting(2000, "Draws behind each 95 % interval.", at_least=100)
    multiple_choice: tuple[MultipleChoiceSet, ...] = setting((), "Multiple-choice files to score: [{name, path}].")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics, ``all`` written out."""
        return get_args(MetricName) if self.metrics == "all" else self.metrics


@dataclass(frozen=True)
class Config:
    """The whole configuration. Each command hands its worker the sections that it needs."""

    run_dir: str = setting("runs/medqa", "Folder that holds all a run writes.")
    seed: int = setting(
        42, "Seed of the split, the data order, dropout and the bootstrap.", at_least=0, at_most=2**32 - 1
    )
    data: DataConfig = setting(DataConfig)
    prompt: PromptConfig = setting(PromptConfig)
    model: ModelConfig = setting(ModelConfig)
    lora: LoraConfig = setting(LoraConfig)
    train: TrainConfig = setting(TrainConfig)
    generate: GenerateConfig = setting(GenerateConfig)
    eval: EvalConfig = setting(EvalConfig)


SECTIONS: tuple[str, ...] = tuple(f.name for f in fields(Config) if f.name not in ("run_dir", "seed"))
