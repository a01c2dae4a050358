"""The kinds of cases: a training step beside its plan, the Trainer, generation, scoring. Each returns what was seen."""

import contextlib
import math
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from helpers.pretend_cuda import faults
from helpers.pretend_cuda.card import CUDA, outliers, pretend
from helpers.pretend_cuda.host import Host
from medqa_cli.answering import decode
from medqa_cli.config.schema import GenerateConfig, LoraConfig, ModelConfig, TrainConfig
from medqa_cli.model import load, memory_profile
from medqa_cli.model.kernels import attention, fused_layers, lora_products, packing
from medqa_cli.prompt.encoder import Example
from medqa_cli.training import arguments
from medqa_cli.training.trainer import MedqaTrainer


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case, with its fault if it has one; an error is its result.

    Its keys: ``kind`` (of ``KINDS``), ``card``, ``dtype``, ``shape`` and ``architecture`` of the config, ``model`` and
    ``lora`` of medqa's config, ``examples`` (tokens of prompt and answer), and those of its kind.
    """
    pretend(case["card"])
    outliers(case.get("outliers", 0))
    with contextlib.ExitStack() as stack:
        if case.get("fault"):
            stack.enter_context(faults.FAULTS[case["fault"]]())
        try:
            started = time.process_time()
            return {**KINDS[case["kind"]](case), "seconds": round(time.process_time() - started, 2)}
        except Exception as error:  # what PyTorch's stand-ins and the contracts raise
            return {"error": f"{type(error).__name__}: {error}"}


def examples_of(lengths: list[list[int]]) -> list[Example]:
    """Examples of so many tokens of prompt and answer."""
    return [Example([5] * (prompt + answer), [-100] * prompt + [7] * answer, False) for prompt, answer in lengths]


def config_of(case: dict[str, Any], layers: int) -> Any:
    """The Transformers config of a case."""
    kind, settings = case.get("architecture", "Llama"), {"vocab_size": 32_000, **case["shape"]}
    return getattr(transformers, f"{kind}Config")(**{**settings, "num_hidden_layers": layers})


def sections_of(case: dict[str, Any]) -> tuple[ModelConfig, LoraConfig]:
    """The two sections of medqa's config."""
    return ModelConfig(**case["model"]), LoraConfig(**{"r": 16, "lora_dropout": 0.0, **case["lora"]})


def model_of(case: dict[str, Any], layers: int) -> memory_profile._OneDepth:
    """The model of a case, as fake CUDA tensors."""
    # Of an earlier case, in another mode of fake tensors.
    attention.example_starts.cache_clear()
    load.quiet_libraries()
    with CUDA:
        config, dtype = config_of(case, layers), getattr(torch, case["dtype"])
        return memory_profile._OneDepth(layers, config, *sections_of(case), dtype)


def run_step(case: dict[str, Any], layers: int) -> tuple[dict[str, int], Host]:
    """Run one forward and backward with so many layers."""
    dtype, examples = getattr(torch, case["dtype"]), examples_of(case["examples"])
    depth = model_of(case, layers)
    causal_lm = depth._model.get_base_model()
    memory_profile._switch_checkpointing(causal_lm, case["recomputed"])
    host, after_layers = Host(depth._model), list[int]()
    autocast = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)
    with depth._mode, host, lora_products.casting_once(), lora_products.keeping_constants(case["recomputed"]):
        with causal_lm.base_model.register_forward_hook(lambda *_: after_layers.append(host.live.mark())), autocast:
            losses = packing.answer_token_losses(depth._model, packing.pack(examples, CUDA))
        assert losses.dtype == torch.float32
        losses.sum().backward()
    trained = [p for p in depth._model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in trained)
    # The casts of the adapter are kept for the step.
    casts = sum(p.numel() for p in trained) * dtype.itemsize if dtype != torch.float32 else 0
    return {"activations": after_layers[0], "peak": host.live.peak, "casts": casts}, host


def step(case: dict[str, Any]) -> dict[str, Any]:
    """Run a step; return bytes, waits, what flash was asked for, and by the flags of the case more.

    ``plan``: what the plan says of the bytes; ``most_launches``: what one more layer adds in bytes and launches.
    """
    found, host = run_step(case, 1)
    result: dict[str, Any] = {**found, "waits": dict(host.waits), "flash": sorted(map(list, host.flash))}
    if case["plan"]:
        shape = memory_profile.ShapeModel(config_of(case, 1), *sections_of(case), getattr(torch, case["dtype"]))
        planned = shape.step_memory(
            examples_of(case["examples"]), device_type="cuda", recomputed=case["recomputed"], several_forwards=False,
            has_flash=case["card"] == "H100",
        )  # fmt: skip
        result |= {"planned_activations": planned.activation_bytes, "planned_peak": planned.step_bytes}
    if case["most_launches"]:
        more, host_of_more = run_step(case, 2)
        result["launches_of_a_layer"] = dict(host_of_more.launches - host.launches)
        result["activations_of_a_layer"] = more["activations"] - found["activations"]
        result["casts_of_a_layer"] = more["casts"] - found["casts"]
    return result


@contextlib.contextmanager
def modules_walked() -> Iterator[Counter[str]]:
    """Count the modules that are visited one by one: a model of 7B with adapters has 2,665."""
    walked: Counter[str] = Counter()
    named_modules, train_one = torch.nn.Module.named_modules, torch.nn.Module.train

    def counted(self: Any, *arguments: Any, **more: Any) -> Iterator[Any]:
        for found in named_modules(self, *arguments, **more):
            walked["named_modules"] += 1
            yield found

    def train_counted(self: Any, mode: bool = True) -> Any:
        walked["train"] += 1
        return train_one(self, mode)

    torch.nn.Module.named_modules, torch.nn.Module.train = counted, train_counted  # type: ignore
    try:
        yield walked
    finally:
        torch.nn.Module.named_modules, torch.nn.Module.train = named_modules, train_one  # type: ignore[method-assign]


def train(case: dict[str, Any]) -> dict[str, Any]:
    """Let the Trainer take three steps and evaluate; return what the last took: waits, launches, modules visited."""
    dtype = getattr(torch, case["dtype"])
    depth = model_of(case, 1)
    quantizer = types.SimpleNamespace(is_trainable=True, quantization_config=None)
    depth._model.get_base_model().hf_quantizer = quantizer  # as loading leaves it
    host = Host(depth._model)
    seen: list[dict[str, Counter[str]]] = []

    class Seen(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen.append({"waits": Counter(host.waits), "launches": Counter(host.launches), "walked": Counter(walked)})

    config = TrainConfig(max_steps=3, logging_steps=100, save_steps=100, optim=case["optim"])
    examples = examples_of(case["examples"])
    with depth._mode, modules_walked() as walked:
        args = arguments.make_training_arguments(
            config, seed=1, output_dir=Path(case["folder"]), device=CUDA, compute_dtype=dtype, eval_steps=3
        )
        trainer = MedqaTrainer(
            model=depth._model, args=args, examples=examples, validation=examples[:4],
            max_tokens_per_forward=case["tokens"], compute_dtype=dtype, callbacks=[Seen()],
        )  # fmt: skip
        trainer.accelerator.device_placement = False  # it is there already, and fake tensors cannot be swapped
        trainer._save_checkpoint = lambda *_, **__: None  # type: ignore[method-assign]
        with host:
            trainer.train()
    of_step = {what: dict(seen[2][what] - seen[1][what]) for what in seen[2]}
    evaluated = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    return {**of_step, "steps": trainer.state.global_step, "evaluations": len(evaluated), "modules": len(
        list(depth._model.modules())
    )}  # fmt: skip


class Row:
    """An answer of so many tokens; with ``goes_back``: at its second token it goes back once and forbids a token."""

    def __init__(self, most: int, goes_back: bool) -> None:
        self.ids: list[int] = []
        self.went_back, self.num_retries = False, 0
        self._most, self._goes_back = most, goes_back

    @property
    def finish_reason(self) -> str | None:
        """It ends by its length."""
        return "length" if len(self.ids) >= self._most else None

    def biases(self, best: int) -> dict[int, float]:
        """Forbid a token after going back."""
        return {best: -math.inf} if self.num_retries else {}

    def add(self, token_id: int) -> None:
        """Take a token."""
        self.ids.append(token_id)
        self.went_back = self._goes_back and len(self.ids) == 2 and not self.num_retries
        if self.went_back:
            self.ids.pop()
            self.num_retries += 1


def generate(case: dict[str, Any]) -> dict[str, Any]:
    """Let rows of several lengths be continued; one of them goes back."""
    depth = model_of(case, 1)
    model = depth._model if case["adapter"] else depth._model.get_base_model()
    attention.use_own_attention(depth.causal_lm)
    fused_layers.unfuse_layers(depth._model)
    rows = [Row(most, number == case["goes_back"]) for number, most in enumerate(case["answers"])]
    prompts = [[5] * length for length in case["prompts"]]
    host = Host(depth._model.eval())
    with depth._mode, host:
        decode.decode_batch(model, CUDA, prompts, rows, GenerateConfig(**case["generate"]))
    forwards = max(len(row.ids) for row in rows)
    return {"waits": dict(host.waits), "tokens": [len(row.ids) for row in rows], "forwards": forwards}


def score(case: dict[str, Any]) -> dict[str, Any]:
    """Score answers, several in a forward pass."""
    dtype, depth = getattr(torch, case["dtype"]), model_of(case, 1)
    host = Host(depth._model)
    with depth._mode, host:
        scores = packing.score_answers(
            depth._model, examples_of(case["examples"]), batch_size=case["batch_size"], device=CUDA, dtype=dtype
        )
    return {"waits": dict(host.waits), "tokens": [score.num_tokens for score in scores]}


KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "step": step,
    "train": train,
    "generate": generate,
    "score": score,
}
