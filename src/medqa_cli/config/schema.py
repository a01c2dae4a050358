"""The configuration as frozen dataclasses: each key with its type, default, range and description.

Names are those of Transformers and PEFT. Defaults are the settings of the run that medqa takes over (QLoRA of
Llama-2-7B on one 16 GB T4, mid 2024) wherever that run had a setting.
"""

# ruff: noqa: RUF009 -- field() is dataclasses.field() with metadata, it shares no value between instances.
# No `from __future__ import annotations`: the types are read at run time, by pydantic and below.

import dataclasses
import os
import types
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from medqa_cli.files import RunFolder

MAX_LIST_ITEMS = 1000
TEMPLATES = ("llama2", "chat", "alpaca", "plain")
TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2", ".txt")


class Constraint:
    """Constraints on one member of a union, which pydantic reads without being imported here.

    Args:
        as_json: further keywords of the JSON schema.
        constraints: keys of a pydantic core schema, such as ``ge`` and ``pattern``.
    """

    def __init__(self, as_json: dict[str, Any] | None = None, **constraints: Any) -> None:
        self.as_json = as_json or {}
        self.constraints = constraints

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the type's core schema with the constraints."""
        return handler(source) | self.constraints

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the type's JSON schema with ``as_json``."""
        return handler(schema) | self.as_json


class HomeExpanded:
    """Replaces ``~`` by the home folder, since no shell has seen the value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the type's core schema with the replacement."""
        from pydantic_core.core_schema import no_info_after_validator_function

        # Not pathlib's: that one fails on ~NAME of nobody, and rewrites names that are not paths.
        return no_info_after_validator_function(os.path.expanduser, handler(source))


Text = Annotated[str, Constraint(pattern=r"\S")]
FilePath = Annotated[Text, HomeExpanded()]
PositiveInt = Annotated[int, Constraint(ge=1)]
_List = Constraint({"uniqueItems": True}, min_length=1, max_length=MAX_LIST_ITEMS)
Names = Annotated[tuple[Text, ...], _List]
FilePaths = Annotated[tuple[FilePath, ...], _List]

Quantization = Literal["nf4", "fp4", "int8", "none"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
Split = Literal["train", "validation", "test"]
# transformers.trainer_utils.SchedulerType and transformers.training_args.OptimizerNames: written out because importing
# Transformers takes seconds; a test compares them with the installed version.
Scheduler = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "reduce_lr_on_plateau", "greedy",
]  # fmt: skip
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "adamw_anyprecision",
    "adamw_torch_4bit", "adamw_torch_8bit", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit",
    "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit",
    "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit", "grokadamw", "stable_adamw",
]  # fmt: skip
# They follow the validation loss.
SCHEDULERS_THAT_WATCH = ("reduce_lr_on_plateau", "greedy")
_NO_KEY = "needs {}, which medqa has no key for"
_IN_BACKWARD = "updates weights during the backward pass, of which a step has several here"
_TOLD = "must be told when the model is evaluated or saved, which medqa does not do"
# Names that Transformers knows and that cannot work here, with the reason.
UNSUPPORTED = {
    "train.lr_scheduler_type": dict.fromkeys(
        ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"), _NO_KEY.format("further arguments")
    ),
    "train.optim": dict.fromkeys(
        (
            "galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise",
            "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "apollo_adamw", "apollo_adamw_layerwise",
        ),
        _NO_KEY.format("optim_target_modules"),
    )
    | dict.fromkeys(("lomo", "adalomo"), _IN_BACKWARD)
    | dict.fromkeys(("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), _TOLD),
}  # fmt: skip
Tracker = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]
MetricName = Literal[
    "nll", "bits_per_byte", "rouge1", "rouge2", "rougeL", "chrf", "bleu", "topic_coverage", "reference_swap_margin",
    "seq_rep_4", "loop_rate", "finished_rate", "length_ratio", "prompt_echo_rate", "citation_precision",
    "citation_recall", "supported_share", "decline_rate", "memorized_rate",
    "extracted_identifiers", "exposure",
]  # fmt: skip


def field(default: Any, description: str = "", *, commands: str = "", **constraints: Any) -> Any:
    """Declare a key, or (in ``Config``) a section.

    Args:
        default: the value when neither the file nor ``--set`` gives one; a callable is a factory.
        description: one or two sentences, with the unit and the meaning of special values.
        commands: the commands that use it, in the order of their use; empty: those of its section.
        constraints: further arguments of ``pydantic.Field``: the range as ``ge``, ``gt``, ``le`` and ``lt``.
    """
    metadata = {"description": description, "commands": tuple(commands.split()), **constraints}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataConfig:
    """Where questions and answers come from and how they are split."""

    source: FilePath | FilePaths | None = field(
        None,
        "The spreadsheet: CSV, TSV, JSON, JSONL, Excel, OpenDocument, Parquet, a folder or archive of these or of "
        "MedQuAD XML, a hub data set id, or a list of such. `medqa convert SOURCE` overrides it.",
    )
    documents: FilePath | FilePaths | None = field(
        None,
        "Files or folders that answers may be drawn from (.txt, .md, .html, .pdf, tables of questions and answers). "
        "`medqa convert` indexes them beside the training rows; no answer is learned from them.",
    )
    question_column: Text | None = field(
        None,
        "Column with the question, also in a table given to `medqa ask --file`; null: detected by its name.",
        commands="convert ask",
    )
    answer_column: Text | None = field(None, "Column with the answer; null: detected by its name.")
    topic_column: Text | None = field(
        None,
        "Column with the topic (the disease); all rows of a topic go into the same split. "
        "null: detected by its name, else extracted from the question.",
    )
    turns: Literal["reject", "first", "last", "all"] = field(
        "reject",
        "What is learned of a row that holds a conversation: its first answer, its last one or all, each with the "
        "turns before it in the prompt; reject: nothing, the row is rejected as several_turns.",
    )
    context_column: Text | None = field(
        None,
        "Column with what belongs to a row's question (a case, notes, a system line) and stands before it in the "
        "prompt; system: also the system message of a row of messages. null: none.",
        commands="convert ask",
    )
    encoding: Text | None = field(
        None,
        "Encoding of the text files (CSV, TSV, JSON, JSONL, .txt), e.g. utf-8, cp1251, gb18030, shift_jis; null: "
        "detected from their bytes.",
        commands="convert ask",
    )
    dir: FilePath = field(
        "data/medqa",
        "Folder that `medqa convert` writes and the other commands read.",
        commands="convert train merge ask eval serve",
    )
    cleaning: dict[str, bool] = field(
        dict,
        "Cleaning rules to switch off by name, e.g. {whitespace: false}; docs/data.md lists them. All are on.",
        json_schema_extra={"default": {}},
    )
    reasons: dict[str, bool] = field(
        dict,
        "Reasons for rejecting a row to switch off by name, e.g. {answer_is_question: false}; docs/data.md lists them.",
        json_schema_extra={"default": {}},
    )
    validation_fraction: float = field(
        0.05, "Fraction of the rows, drawn by topic, held out for validation during training.", ge=0, lt=1
    )
    test_fraction: float = field(0.1, "Fraction of the rows, drawn by topic, held out for `medqa eval`.", ge=0, lt=1)
    near_duplicate_threshold: float = field(
        0.8,
        "Jaccard similarity of five-word shingles above which two answers are near duplicates; "
        "near duplicates of held-out answers are left out of train.",
        ge=0.1,
        le=1,
    )
    max_rows: int | None = field(None, "Keep at most this many rows, drawn with the seed; null: all.", ge=1)
    max_copies_of_an_answer: int | None = field(
        20, "Reject further rows once this many have the same answer; null: no limit.", ge=1
    )
    paraphrases_per_question: int = field(
        0, "Add up to this many paraphrases of each training question, worded as patients ask; 0: none.", ge=0
    )
    canaries: int = field(
        0,
        "Plant this many rows with made-up names and numbers in train, so that `medqa eval` shows whether the model "
        "learns such numbers by heart; 0: none. A model that was trained with them is for this test only.",
        ge=0,
        le=500,
    )
    canary_copies: Annotated[tuple[Annotated[int, Constraint(ge=0)], ...], _List] = field(
        (1, 4, 16, 64), "How often each canary is planted; they take turns. 0: not at all, as a control."
    )
    identifiers: Literal["report", "replace", "reject"] = field(
        "report",
        "What becomes of names, dates, numbers and addresses of persons: they are counted, others of the same form are "
        "put for them, or their rows are rejected.",
    )
    identifiers_model: FilePath | None = field(
        None,
        "Folder of a token-classification model on this machine (config.json, safetensors, tokenizer) that looks for "
        "identifiers beside the rules; nothing is downloaded. It takes far more time than the rules. null: rules only.",
    )
    max_row_bytes: int = field(4 << 20, "A source with a longer row than this is refused.", ge=1024)
    max_expanded_bytes: int = field(
        128 << 20,
        "An archive or compressed file that expands to more bytes than this, and to over 100 times its own size, is "
        "refused.",
        ge=1024,
    )
    max_reader_bytes: int = field(
        1 << 30,
        "Memory limit of the process that reads an Excel, OpenDocument, Parquet or large JSON file, in bytes.",
        ge=128 << 20,
    )
    max_reader_seconds: float = field(
        30.0, "The file is refused if that process finds no row for this many seconds.", gt=0
    )


@dataclass(frozen=True)
class PromptConfig:
    """How a question is put to the model."""

    template: FilePath = field(
        "llama2",
        "Prompt format: llama2, chat (the tokenizer's own chat template), alpaca, plain, or the path of a Jinja "
        "file. An adapter keeps the one it was trained with.",
        json_schema_extra={
            "anyOf": [
                {"enum": list(TEMPLATES)},
                {"pattern": rf"[/\\]|.({'|'.join(suffix.replace('.', '[.]') for suffix in TEMPLATE_SUFFIXES)})$"},
            ]
        },
    )
    system: str | None = field(
        "Answer the Question",
        "System prompt. An adapter keeps the one it was trained with; null: none.",
    )
    sources: int = field(
        0,
        "Passages of the data and of data.documents that stand before each question, to answer from and to cite; 0: "
        "none. An adapter keeps the number it was trained with.",
        ge=0,
        le=20,
        commands="train merge ask eval serve",
    )
    source_tokens: int = field(
        160,
        "Maximum length of each of these passages, in tokens; a longer one is cut at the end of a sentence.",
        ge=16,
        commands="train merge ask eval serve",
    )
    decline: Text = field(
        "Nothing in these sources answers the question.",
        "What the model learns to say where no source holds the answer.",
        commands="train merge ask eval serve",
    )


@dataclass(frozen=True)
class SourcesConfig:
    """The sources of training rows, where prompt.sources is above 0, and what comes before an answer."""

    gold: float = field(
        0.8,
        "Probability that the passage that answers is among the sources: the answer is then learned with its mark.",
        ge=0,
        le=1,
    )
    closed_book: float = field(
        0.1, "Probability that a row has no sources, so that the model still answers without.", ge=0, le=1
    )
    absent: Literal["decline", "answer"] = field(
        "decline", "What is learned where no source answers: prompt.decline, or the answer without a mark."
    )
    headings: float = field(
        0.3,
        "Probability that the title of a training row's passage is shown as a heading, as leaflets have them "
        "(Glaucoma: treatment), and not as the question of its row.",
        ge=0,
        le=1,
    )
    reviewed_first: Literal["auto"] | bool = field(
        "auto",
        "Give the answer of a training row, word for word, where the question asks what that row asks, and no answer "
        "where nothing in the data is near; auto: if the model was trained with sources.",
        commands="ask serve",
    )


@dataclass(frozen=True)
class ModelConfig:
    """The base model and its precision."""

    name_or_path: Text | None = field(
        None,
        "The base model: a hub id, a folder, a .gguf file, or package:PACKAGE/FILE.gguf for a file in an installed "
        "Python package.",
        commands="convert train merge ask eval serve",
    )
    revision: Text | None = field(
        None,
        "Branch, tag or commit on the hub; null: the default branch.",
        commands="convert train merge ask eval serve",
    )
    quantization: Quantization = field(
        "nf4",
        "Precision of the frozen base weights: nf4 and fp4 (4 bits, bitsandbytes), int8, or none: not quantized.",
    )
    double_quantization: bool = field(
        False, "With nf4 and fp4: quantize the quantization constants too, which saves about 0.4 bit per weight."
    )
    compute_dtype: ComputeDtype = field(
        "auto",
        "Data type of the matrix products; auto: on a GPU bfloat16 if the hardware supports it, else float16; on a CPU "
        "bfloat16 where its products are faster (with AMX, and with AVX512-BF16 on some), else float32.",
    )
    max_length: int = field(
        1024,
        "Maximum length of prompt plus answer, in tokens; a longer answer is cut at the end of a sentence and counted.",
        ge=8,
        commands="convert train merge eval",
    )


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: low-rank matrices next to frozen weights (Hu et al. 2021, arXiv 2106.09685)."""

    r: int = field(64, "Rank of the update: a higher rank can learn more and takes more memory.", ge=1)
    lora_alpha: float = field(16, "Scale: the update is multiplied by lora_alpha / r.", gt=0)
    lora_dropout: float = field(0.1, "Dropout probability of the adapter's inputs during training.", ge=0, lt=1)
    target_modules: Literal["auto", "all-linear"] | Names = field(
        "auto",
        "Layers that get an adapter; auto: PEFT's choice for the architecture (q_proj and v_proj in Llama), else query "
        "and value; all-linear: all but the output layer and a mixture's experts; or a list of names.",
    )
    use_rslora: bool = field(False, "Scale the update by lora_alpha / sqrt(r) instead (rsLoRA, arXiv 2312.03732).")
    use_dora: bool = field(False, "Learn magnitude and direction of each weight separately (DoRA, arXiv 2402.09353).")
    init_lora_weights: Literal["default", "loftq", "pissa"] = field(
        "default",
        "Initial adapter; default: no change; loftq: the error of 4-bit quantization (arXiv 2310.08659); "
        "pissa: the principal components of unquantized weights (arXiv 2404.02948).",
    )
    bias: Literal["none", "all", "lora_only"] = field(
        "none", "Bias vectors to train: none, all, or those of the layers with an adapter."
    )


@dataclass(frozen=True)
class TrainConfig:
    """The optimization; names and meanings are those of ``transformers.TrainingArguments``."""

    num_train_epochs: float = field(1.0, "Passes over the training split.", gt=0)
    max_steps: Literal[-1] | PositiveInt = field(
        -1, "Stop after this many optimizer steps; -1: determined by num_train_epochs."
    )
    per_device_train_batch_size: int = field(
        2,
        "Rows per device and accumulation step. Only its product with gradient_accumulation_steps matters (rows per "
        "device and optimizer step): forward passes are filled up to max_tokens_per_forward.",
        ge=1,
    )
    gradient_accumulation_steps: int = field(
        4, "Accumulation steps per optimizer step; see per_device_train_batch_size.", ge=1
    )
    gradient_checkpointing: Literal["auto"] | bool = field(
        True,
        "Recompute activations in the backward pass: slower, far less memory; auto: on a GPU that is short of memory.",
    )
    compile: Literal["auto"] | bool = field(
        "auto",
        "Compile the decoder layers (torch.compile); on a CPU with a C++ compiler only; auto: in a run so long that it "
        "pays.",
    )
    learning_rate: float = field(2e-4, "Peak learning rate; lower it if the loss jumps.", gt=0)
    lr_scheduler_type: Scheduler = field(
        "constant",
        f"Learning-rate scheduler (a Transformers name); {' and '.join(SCHEDULERS_THAT_WATCH)} need eval_steps.",
    )
    warmup_ratio: float = field(
        0.03,
        "Fraction of the steps over which the learning rate rises from 0; the scheduler constant ignores it.",
        ge=0,
        le=1,
    )
    weight_decay: float = field(0.001, "Weight decay of the adapter (decoupled); 0: none.", ge=0)
    max_grad_norm: float = field(0.3, "Gradients are clipped to this norm; 0: no clipping.", ge=0)
    optim: Optimizer = field(
        "paged_adamw_32bit",
        "Optimizer (a Transformers name). The paged ones can move their state to host memory on a GPU, but "
        "synchronize after each tensor; adamw_torch_fused is the fastest there.",
    )
    save_steps: int = field(75, "Save a checkpoint every N optimizer steps.", ge=1)
    logging_steps: int = field(
        75, "Write a line to train.jsonl every N optimizer steps, with the mean loss since the last one.", ge=1
    )
    eval_steps: Literal["auto"] | PositiveInt | None = field(
        "auto",
        "Evaluate on the validation split every N optimizer steps, and keep the adapter of the best evaluation; auto: "
        "about ten times, less often in a short run; null: only before and after training.",
    )
    save_total_limit: int | None = field(
        None, "Keep this many of the newest checkpoints, and the one with the best validation loss; null: all.", ge=1
    )
    early_stopping_patience: int | None = field(
        None,
        "Stop after this many evaluations without a better validation loss (needs eval_steps); null: never.",
        ge=1,
    )
    max_tokens_per_forward: Literal["auto"] | PositiveInt = field(
        "auto", "Tokens in one padding-free forward pass; auto: as many as are fast and fit into free memory."
    )
    report_to: Tracker = field("none", "Experiment tracker; its package must be installed.")


@dataclass(frozen=True)
class DpoConfig:
    """How `medqa train --method dpo` trains an adapter further on pairs of which clinicians prefer one answer."""

    learning_rate: float = field(1e-5, "Highest learning rate; it falls to 0.", gt=0)
    beta: float = field(0.1, "The higher, the nearer the adapter stays to what it was (arXiv 2305.18290).", gt=0)
    num_train_epochs: float = field(3.0, "Passes over the pairs.", gt=0)
    max_steps: Literal[-1] | PositiveInt = field(
        -1, "Stop after this many optimizer steps; -1: determined by num_train_epochs."
    )
    pairs_per_step: int = field(8, "Pairs behind one optimizer step; one at a time goes through the model.", ge=1)


@dataclass(frozen=True)
class GenerateConfig:
    """How answers are decoded."""

    engine: Literal["auto", "transformers", "llamacpp"] = field(
        "auto",
        "What computes answers; llamacpp: llama.cpp (extra fast), from the run's GGUF file or the one that is named; "
        "auto: that on a CPU where such a file is there and still that of the adapter, else Transformers; and "
        "Transformers for 16 questions and more (ask --file, eval) where the CPU is fast in bfloat16. Likelihoods are "
        "always those of Transformers.",
        commands="ask eval serve",
    )
    max_new_tokens: int = field(
        512, "Maximum length of an answer, in tokens, without the prompt.", ge=1, commands="merge ask eval serve"
    )
    temperature: float = field(
        0.0,
        "0: always the most likely token; higher: more variety. `medqa eval` always uses 0.",
        ge=0,
        commands="merge ask serve",
    )
    top_p: float = field(
        1.0,
        "With a temperature above 0: sample from the most likely tokens of this total probability.",
        gt=0,
        le=1,
        commands="merge ask serve",
    )
    repetition_penalty: float = field(
        1.0,
        "Above 1: tokens that already occurred become less likely, which hides that a model repeats itself; 1: off.",
        gt=0,
        commands="merge ask eval serve",
    )
    loop_retries: int = field(
        8,
        "Where an answer begins to repeat itself, go back to the first repeated word, choose another one there and go "
        "on, at most this many times; each time its end becomes likelier. 0: end the answer there.",
        ge=0,
        commands="ask eval serve",
    )
    no_repeat_ngram_size: int = field(
        0, "Never generate a sequence of this many tokens twice; 0: off.", ge=0, commands="ask eval serve"
    )
    batch_size: Literal["auto"] | PositiveInt = field(
        "auto",
        "Questions that `medqa ask --file` and `medqa eval` answer at once; auto: up to 64, limited by free memory.",
        commands="ask eval serve",
    )


@dataclass(frozen=True)
class MultipleChoiceSet:
    """One multiple-choice file to score."""

    name: Text = dataclasses.field(metadata={"description": "Name in the report."})
    path: FilePath = dataclasses.field(
        metadata={"description": "File in the public format of PubMedQA, MedMCQA or MedQA."}
    )


@dataclass(frozen=True)
class EvalConfig:
    """What `medqa eval` measures."""

    split: Split = field("test", "Split whose questions are asked and scored.")
    batch_size: int = field(8, "Questions per forward pass when computing the likelihood.", ge=1)
    metrics: Literal["all"] | Annotated[tuple[MetricName, ...], _List] = field(
        "all",
        "Metrics to compute. nll (nats per answer token), bits_per_byte and those of memorization (memorized_rate, "
        "extracted_identifiers, exposure) do without generated answers; the others need them, which is slow on a CPU: "
        "[nll, bits_per_byte] skips that.",
    )
    memorization_rows: int = field(
        200, "For memorized_rate: look for the answers of this many training rows, and of as many held-out ones.", ge=1
    )
    bootstrap_draws: int = field(2000, "Bootstrap samples (of topics) behind each 95 % confidence interval.", ge=100)
    multiple_choice: Annotated[tuple[MultipleChoiceSet, ...], Constraint(max_length=MAX_LIST_ITEMS)] = field(
        (), "Multiple-choice files to score: [{name, path}]."
    )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics, ``all`` written out."""
        return get_args(MetricName) if self.metrics == "all" else self.metrics


@dataclass(frozen=True)
class ReviewConfig:
    """What raters are asked in a blind review (``medqa review``)."""

    criteria: FilePath | None = field(
        None,
        "YAML file with the yes-or-no questions about each answer and the words of the page; null: those of medqa. "
        "docs/review_figures.md has the form.",
    )


@dataclass(frozen=True)
class ServeConfig:
    """What `medqa serve` allows; its address is given on the command line."""

    earlier_turns: Literal["auto", "leave_out", "before_question"] = field(
        "auto",
        "Earlier turns of a conversation; leave_out: not shown to the model; before_question: they stand before the "
        "question as the model learned it, of a model that learned single questions the last turn alone, as with "
        "/follow; auto: before_question if the model learned conversations.",
    )
    max_requests: int = field(
        64, "Requests that are answered or wait for it at one time; further ones are refused.", ge=1
    )
    max_question_characters: int = field(20_000, "A longer question is refused.", ge=1)
    max_body_bytes: int = field(1 << 20, "A larger request is refused.", ge=1024)


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    run_dir: FilePath = field(
        "runs/medqa",
        "Folder for everything a run writes: adapter, checkpoints, logs, evaluation, merged model.",
        commands="train merge ask eval review serve",
    )
    seed: int = field(
        42,
        "Seed of the split, the data order, dropout, the bootstrap and the draws of a review.",
        ge=0,
        le=2**32 - 1,
        commands="convert train eval review",
    )
    data: DataConfig = field(DataConfig, commands="convert")
    prompt: PromptConfig = field(PromptConfig, commands="convert train merge ask eval serve")
    sources: SourcesConfig = field(SourcesConfig, commands="train")
    model: ModelConfig = field(ModelConfig, commands="train merge ask eval serve")
    lora: LoraConfig = field(LoraConfig, commands="train")
    train: TrainConfig = field(TrainConfig, commands="train")
    dpo: DpoConfig = field(DpoConfig, commands="train")
    generate: GenerateConfig = field(GenerateConfig)
    eval: EvalConfig = field(EvalConfig, commands="eval")
    review: ReviewConfig = field(ReviewConfig, commands="review")
    serve: ServeConfig = field(ServeConfig, commands="serve")

    @property
    def run(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder(Path(self.run_dir))


SECTIONS: dict[str, Any] = {top.name: top.type for top in fields(Config) if dataclasses.is_dataclass(top.type)}
KEYS: dict[str, dataclasses.Field[Any]] = {
    f"{top.name}.{key.name}" if top.name in SECTIONS else top.name: key
    for top in fields(Config)
    for key in (fields(SECTIONS[top.name]) if top.name in SECTIONS else (top,))
}
"""Every key that holds a value, by its dotted name, in the order of the file."""


def is_nullable(dotted: str) -> bool:
    """Return whether a key takes null."""
    return types.NoneType in get_args(KEYS[dotted].type)
