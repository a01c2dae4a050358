"""The sections of the configuration as frozen dataclasses: names, types, defaults, ranges, one sentence on each key.

The names are those of Transformers and PEFT. The defaults are the settings of the run that medqa takes over (a QLoRA
of Llama-2-7B on one 16 GB T4, mid 2024) wherever that run had a setting. Does not read files: see ``load``.
"""

# ruff: noqa: RUF009 -- setting() is dataclasses.field() under another name, it shares no value between instances.

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from medqa_cli.config.field import setting

Template = str
Quantization = Literal["nf4", "fp4", "int8", "none"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DataConfig:
    """Where questions and answers come from and how they are split."""

    source: str | tuple[str, ...] | None = setting(
        None,
        "The spreadsheet: CSV, TSV, Excel, JSON, JSONL, Parquet, a folder or archive of these or of MedQuAD XML, a hub "
        "data set id, or a list of such. `medqa convert SOURCE` overrides it.",
        is_path=True,
    )
    question_column: str | None = setting(
        None,
        "Column that holds the question, also in a table given to `medqa ask --file`; null: found by its name.",
        commands="convert ask",
    )
    answer_column: str | None = setting(None, "Column that holds the answer; null: found by its name.")
    topic_column: str | None = setting(
        None,
        "Column that holds the topic (the disease); rows of one topic stay in one split. "
        "null: found by its name, else taken from the question.",
    )
    encoding: str | None = setting(
        None,
        "Encoding of the text files (CSV, TSV, JSON, JSONL, .txt), e.g. utf-8, cp1251, gb18030, shift_jis; null: told "
        "by their bytes.",
        commands="convert ask",
    )
    dir: str = setting(
        "data/medqa",
        "Folder that `medqa convert` writes and the other commands read.",
        is_path=True,
        commands="convert train merge ask eval",
    )
    cleaning: dict[str, bool] = setting(
        dict, "Cleaning rules to switch off by name, e.g. {whitespace: false}; docs/data.md lists them. All are on."
    )
    reasons: dict[str, bool] = setting(
        dict,
        "Reasons to leave a row out, to switch off by name, e.g. {answer_is_question: false}; docs/data.md lists them.",
    )
    validation_fraction: float = setting(
        0.05, "Share of the rows, drawn by topic, held out to watch the training.", at_least=0, below=1
    )
    test_fraction: float = setting(
        0.1, "Share of the rows, drawn by topic, held out for `medqa eval`.", at_least=0, below=1
    )
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
        0, "Add at most this many other wordings of each training question, as people ask; 0: none.", at_least=0
    )
    max_row_bytes: int = setting(4 << 20, "A source with a longer row than this is refused.", at_least=1024)
    max_expanded_bytes: int = setting(
        128 << 20,
        "An archive or packed file that unpacks to more bytes than this, and to over a hundred times its own size, is "
        "refused.",
        at_least=1024,
    )
    max_reader_bytes: int = setting(
        1 << 30,
        "Most memory of the process that reads an Excel, OpenDocument, Parquet or large JSON file.",
        at_least=128 << 20,
    )
    max_reader_seconds: float = setting(
        30.0, "Longest time in which that process may find no row; then the file is refused.", above=0
    )


@dataclass(frozen=True)
class PromptConfig:
    """How a question is put to the model."""

    template: Template = setting(
        "llama2",
        "Form of the prompt: llama2, chat (the tokenizer's own chat template), alpaca, plain, or the path of a Jinja "
        "file. An adapter keeps that of its training.",
        is_path=True,
    )
    system: str | None = setting(
        "Answer the Question",
        "Instruction that goes with each question. An adapter keeps that of its training; null: none.",
    )


@dataclass(frozen=True)
class ModelConfig:
    """The base model and the precision it is held in."""

    name_or_path: str | None = setting(
        None,
        "The base model: a hub id, a folder, a .gguf file, or package:PACKAGE/FILE.gguf for a file that a Python "
        "package ships.",
        commands="convert train merge ask eval",
    )
    revision: str | None = setting(
        None,
        "Branch, tag or commit on the hub; null: the default branch.",
        commands="convert train merge ask eval",
    )
    quantization: Quantization = setting(
        "nf4",
        "Precision of the frozen base weights: nf4 and fp4 (4 bits, bitsandbytes), int8, or none: not quantized.",
    )
    double_quantization: bool = setting(
        False, "With nf4 and fp4: quantize their constants too, which saves about 0.4 bit a weight."
    )
    compute_dtype: ComputeDtype = setting(
        "auto",
        "Type of the matrix products; auto: on a GPU bfloat16 where it computes that itself, else float16; on a CPU "
        "bfloat16 with AMX, else float32.",
    )
    max_length: int = setting(
        1024,
        "Longest prompt plus answer, in tokens; a longer answer is cut at the end of a sentence and counted.",
        at_least=8,
        commands="convert train merge eval",
    )


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: low-rank matrices beside frozen weights (Hu et al. 2021, arXiv 2106.09685)."""

    r: int = setting(64, "Rank of the update: a higher one can learn more and takes more memory.", at_least=1)
    lora_alpha: float = setting(16, "Scale: the update is multiplied by lora_alpha / r.", above=0)
    lora_dropout: float = setting(0.1, "Share of the adapter's inputs that a training step drops.", at_least=0, below=1)
    target_modules: Literal["auto", "all-linear"] | tuple[str, ...] = setting(
        "auto",
        "Layers that get an adapter; auto: PEFT's choice for the architecture (q_proj and v_proj in Llama), else query "
        "and value; all-linear: all but the output layer and a mixture's experts; or a list of names.",
    )
    use_rslora: bool = setting(False, "Scale the update by lora_alpha / sqrt(r) instead (rsLoRA, arXiv 2312.03732).")
    use_dora: bool = setting(False, "Learn magnitude and direction of each weight apart (DoRA, arXiv 2402.09353).")
    init_lora_weights: Literal["default", "loftq", "pissa"] = setting(
        "default",
        "What the adapter starts from: default: no change; loftq: what 4 bits took away (arXiv 2310.08659); "
        "pissa: the main directions of unquantized weights (arXiv 2404.02948).",
    )
    bias: Literal["none", "all", "lora_only"] = setting(
        "none", "Which bias vectors are trained: none, all, or those of the layers with an adapter."
    )


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation; names and meanings are those of ``transformers.TrainingArguments``."""

    num_train_epochs: float = setting(1.0, "Passes over the training split.", above=0)
    max_steps: int = setting(-1, "Stop after this many optimizer steps; -1: by num_train_epochs.", at_least=-1)
    per_device_train_batch_size: int = setting(
        2,
        "Rows per device and accumulation step. Only its product with gradient_accumulation_steps matters (rows per "
        "device and optimizer step): forwards are filled by max_tokens_per_forward.",
        at_least=1,
    )
    gradient_accumulation_steps: int = setting(
        4, "Accumulation steps per optimizer step; see per_device_train_batch_size.", at_least=1
    )
    gradient_checkpointing: Literal["auto"] | bool = setting(
        True,
        "Recompute activations in the backward pass: slower, far less memory; auto: on a GPU whose memory is not "
        "plentiful.",
    )
    learning_rate: float = setting(2e-4, "Peak learning rate; lower it if the loss jumps.", above=0)
    lr_scheduler_type: str = setting(
        "constant",
        "Transformers' name of the course of the learning rate; reduce_lr_on_plateau and greedy need eval_steps.",
    )
    warmup_ratio: float = setting(
        0.03,
        "Share of the steps in which the learning rate rises from 0; the schedule constant ignores it.",
        at_least=0,
        at_most=1,
    )
    weight_decay: float = setting(
        0.001, "Pull of the adapter's weights towards 0, in proportion to the learning rate; 0: none.", at_least=0
    )
    max_grad_norm: float = setting(0.3, "Longer gradients are scaled down to this norm; 0: never.", at_least=0)
    optim: str = setting(
        "paged_adamw_32bit",
        "Transformers' name of the optimizer. The paged ones may move their state to host memory on a GPU, but wait "
        "after each tensor; adamw_torch_fused is the fastest there.",
    )
    save_steps: int = setting(75, "Optimizer steps between checkpoints.", at_least=1)
    logging_steps: int = setting(
        75, "Optimizer steps between lines of train.jsonl; each has the mean loss since the last.", at_least=1
    )
    eval_steps: int | None = setting(
        None, "Optimizer steps between looks at the validation split; null: only before and after.", at_least=1
    )
    save_total_limit: int | None = setting(
        None, "Keep this many of the newest checkpoints, and that of the best validation loss; null: all.", at_least=1
    )
    early_stopping_patience: int | None = setting(
        None,
        "Stop after this many looks without a better validation loss (needs eval_steps), and keep the best look's "
        "adapter rather than the last step's; null: never.",
        at_least=1,
    )
    max_tokens_per_forward: Literal["auto"] | int = setting(
        "auto", "Tokens in one padding-free forward; auto: as many as are fast and fit the memory at hand.", at_least=1
    )
    report_to: str = setting("none", "Experiment tracker; its package must be installed.")


@dataclass(frozen=True)
class GenerateConfig:
    """How answers are decoded."""

    max_new_tokens: int = setting(
        512, "Longest answer, in tokens; the prompt does not count.", at_least=1, commands="merge ask eval"
    )
    temperature: float = setting(
        0.0,
        "0: always the likeliest token; higher: more variety. `medqa eval` always takes 0.",
        at_least=0,
        commands="merge ask",
    )
    top_p: float = setting(
        1.0,
        "With a temperature above 0: sample among the likeliest tokens of this total probability.",
        above=0,
        at_most=1,
        commands="merge ask",
    )
    repetition_penalty: float = setting(
        1.0,
        "Above 1 discourages tokens that were there before, which hides that a model repeats itself; 1: off.",
        above=0,
        commands="merge ask eval",
    )
    no_repeat_ngram_size: int = setting(
        0, "Forbid runs of this many tokens to come again; 0: off.", at_least=0, commands="ask eval"
    )
    batch_size: Literal["auto"] | int = setting(
        "auto",
        "Questions that `medqa ask --file` and `medqa eval` answer at once; auto: up to 64, as the free memory bears.",
        at_least=1,
        commands="ask eval",
    )


@dataclass(frozen=True)
class MultipleChoiceSet:
    """One multiple-choice file to score."""

    name: str = setting("", "Name in the report.")
    path: str = setting("", "File in the public format of PubMedQA, MedMCQA or MedQA.", is_path=True)


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

    split: Split = setting("test", "Split whose questions are asked and scored.")
    batch_size: int = setting(8, "Questions in one forward of the likelihood.", at_least=1)
    metrics: Literal["all"] | tuple[MetricName, ...] = setting(
        "all",
        "Figures to compute. All but nll (nats per answer token) and bits_per_byte need answers to be generated, which "
        "is slow on a CPU: [nll, bits_per_byte] leaves that out.",
    )
    bootstrap_draws: int = setting(2000, "Draws of the bootstrap over topics behind each 95 % interval.", at_least=100)
    multiple_choice: tuple[MultipleChoiceSet, ...] = setting((), "Multiple-choice files to score: [{name, path}].")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics, ``all`` written out."""
        return get_args(MetricName) if self.metrics == "all" else self.metrics


@dataclass(frozen=True)
class Config:
    """The whole configuration. Each command hands its worker the sections that it needs."""

    run_dir: str = setting(
        "runs/medqa",
        "Folder that holds all a run writes: adapter, checkpoints, logs, evaluation, merged model.",
        is_path=True,
        commands="train merge ask eval",
    )
    seed: int = setting(
        42,
        "Seed of the split, the data order, dropout and the bootstrap.",
        at_least=0,
        at_most=2**32 - 1,
        commands="convert train eval",
    )
    data: DataConfig = setting(DataConfig, commands="convert")
    prompt: PromptConfig = setting(PromptConfig, commands="convert train merge ask eval")
    model: ModelConfig = setting(ModelConfig, commands="train merge ask eval")
    lora: LoraConfig = setting(LoraConfig, commands="train")
    train: TrainConfig = setting(TrainConfig, commands="train")
    generate: GenerateConfig = setting(GenerateConfig)
    eval: EvalConfig = setting(EvalConfig, commands="eval")


SECTIONS: tuple[str, ...] = tuple(f.name for f in fields(Config) if f.name not in ("run_dir", "seed"))
