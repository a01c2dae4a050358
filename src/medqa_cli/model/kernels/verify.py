"""Checks that the fast way to compute a model agrees with the plain one, and takes a slower way otherwise.

The fast way lays several examples end to end, replaces layers by fused ones and takes losses from a chunk of logits at
a time. An architecture's name does not say whether that is right: two short examples are computed in each way and by
Transformers' own forward pass, and the fastest way that agrees is taken.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medqa_cli import console, distributed
from medqa_cli.errors import InputError, reason_of
from medqa_cli.model.changed import changed
from medqa_cli.model.kernels import compiled_layers, reduced_model
from medqa_cli.model.kernels.attention import NotPackableError, kernel_problems, use_own_attention, use_packed_attention
from medqa_cli.model.kernels.chunked_cross_entropy import use_whole_logits
from medqa_cli.model.kernels.fused_layers import (
    GATED_SILU,
    LAYER_KINDS,
    RMS_NORM,
    first_layers,
    fuse_layers,
    unfuse_layers,
)
from medqa_cli.model.kernels.packing import answer_token_losses, pack, plain_losses
from medqa_cli.prompt.encoder import Example

# Tolerance, in multiples of the change that one rounding error of the inputs causes.
TIMES_ROUNDING = 16.0
_HINT = "take a model of another architecture: docs/architectures.md lists those that were tried"
# Tokens of the examples through which compiled layers are tried: about as many as a forward pass of a training has,
# since the compiler divides its loops among threads by the first lengths that it sees.
_LENGTHS_TO_COMPILE = (391, 633)

_Numbers = dict[str, Tensor]


class _Expected(NamedTuple):
    """What Transformers' own forward pass computes, and how far rounding errors of the embeddings move it."""

    numbers: _Numbers
    noise: dict[str, float]


class _PlainForwardError(InputError):
    """Transformers' own forward pass fails."""


@dataclass(frozen=True)
class Way:
    """How the losses of a model are computed.

    ``packed``: several examples end to end, else one at a time with the model's own attention; ``in_chunks``: losses
    from a chunk of the logits at a time; ``fused``: kinds of layers that are replaced; ``reasons``: why it is not the
    fastest.
    """

    packed: bool
    in_chunks: bool
    fused: tuple[str, ...]
    reasons: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what stands in ``environment.json`` under ``forwards``."""
        return {
            "packed": self.packed,
            "losses_in_chunks": self.in_chunks,
            "fused_layers": list(self.fused),
            "reasons": list(self.reasons),
            "flash_attention_problems": kernel_problems(),
        }


def settle_way(model: Any, name: str, dtype: torch.dtype, *, trains: bool, fuses: bool = True) -> Way:
    """Find the fastest way that computes a model right, let the model compute so, and say where it is a slower one.

    All ranks must call it, and take the same way. Otherwise the model stays as it is, to the bit.

    Args:
        model: loaded by ``load_base`` with ``packed``, or a PEFT model around one.
        name: what the user calls it.
        dtype: type of the matrix products.
        trains: gradients must be right as well.
        fuses: layers may be replaced.

    Raises:
        InputError: in no way does it compute what Transformers does.
    """
    proof, limit = _Proof(model, name, dtype, trains), Way(True, True, LAYER_KINDS if fuses else ())
    reasons: dict[str, None] = {}
    while True:
        trying = console.status("trying which fast ways compute right ...")
        with distributed.raise_on_all_ranks(), trying:
            fastest = proof.fastest_way(limit)
        ways = distributed.all_gather(fastest)
        reasons |= dict.fromkeys(reason for way in ways for reason in way.reasons)
        # Ranks may differ in their GPUs. What they have in common is proven in the next round.
        fused = tuple(kind for kind in ways[0].fused if all(kind in way.fused for way in ways))
        limit = Way(all(way.packed for way in ways), all(way.in_chunks for way in ways), fused)
        if all(replace(way, reasons=()) == limit for way in ways):
            break
    way = replace(limit, reasons=tuple(reasons))
    use_way(model, way)
    for reason in way.reasons:
        console.note(f"{name}: {reason}")
    for problem in kernel_problems():
        console.note(f"the flash attention kernel is not used, attention takes one example at a time: {problem}")
    return way


def compile_if_right(model: Any, name: str, dtype: torch.dtype) -> str:
    """Let the layers of a model that is settled for training compute compiled, if losses and gradients stay the same.

    The lengths are always those, so that each process compiles the same: a resumed run ends with the same bytes.

    Returns:
        Why they do not, and the model is as before; empty: they do.
    """
    causal_lm = _causal_lm(model)
    if problem := compiled_layers.why_not(causal_lm):
        return problem
    proof = _Proof(model, name, dtype, True, reduced_model.short_examples(causal_lm.config, _LENGTHS_TO_COMPILE))
    problem = proof.problem_of_compiled()
    if problem:
        compiled_layers.uncompile_layers(causal_lm)
    return problem


def use_way(model: Any, way: Way) -> None:
    """Let a model compute in this way."""
    causal_lm = _causal_lm(model)
    if way.packed:
        use_packed_attention(causal_lm)
    else:
        use_own_attention(causal_lm)
    use_whole_logits(causal_lm, not way.in_chunks)
    fuse_layers(model, way.fused)


def _causal_lm(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _ways(limit: Way) -> Iterator[Way]:
    """Yield the ways that are no faster than ``limit`` in any respect, from the fastest to the plainest."""
    kinds = limit.fused
    fewer = [tuple(other for other in kinds if other != kind) for kind in kinds]
    for packed in (True, False) if limit.packed else (False,):
        for in_chunks in (True, False) if limit.in_chunks else (False,):
            yield from (Way(packed, in_chunks, fused) for fused in dict.fromkeys([kinds, *fewer, ()]))


class _Proof:
    """Compares ways of computing a loaded model with Transformers' own forward pass."""

    def __init__(
        self, model: Any, name: str, dtype: torch.dtype, trains: bool, examples: list[Example] | None = None
    ) -> None:
        self._model, self._name, self._trains = model, name, trains
        self._causal_lm = _causal_lm(model)
        self._type = str(self._causal_lm.config.model_type)
        self._device = next(model.parameters()).device
        self._examples = examples or reduced_model.short_examples(self._causal_lm.config)
        self._expected_in_own_type: _Expected | None = None
        # LLM.int8() rounds what goes into a layer to 8 bits, but not in ``in_float32``.
        self._unit = 1 / 127 if getattr(self._causal_lm, "is_loaded_in_8bit", False) else torch.finfo(dtype).eps
        self._dtype = dtype

    def fastest_way(self, limit: Way) -> Way:
        """Return the fastest way that agrees, in no respect faster than ``limit``.

        Raises:
            InputError: none does.
        """
        try:
            with reduced_model.few_layers(self._causal_lm), reduced_model.undisturbed(self._model):
                return self._first_that_agrees(limit)
        except _PlainForwardError:
            # Layers may need those that were left out.
            with reduced_model.undisturbed(self._model):
                return self._first_that_agrees(limit)

    def _first_that_agrees(self, limit: Way) -> Way:
        """Return what ``fastest_way`` does, with the layers that the model has now.

        A way agrees if it does in float32, also with short windows of attention, and then in the model's own type.
        """
        packable = use_packed_attention(self._causal_lm)
        with self._in_float32():
            own_code = self._problems_of_layers(limit.fused)
            expected = self._expected()
            self._refuse_later_tokens(expected.noise)
            with reduced_model.short_windows(self._causal_lm) as has_windows:
                in_windows = _Expected(self._truth(), expected.noise) if has_windows else None
        right = tuple(kind for kind, problem in own_code.items() if not problem)
        problems: dict[Way, str] = {}
        cannot_be_packed = False
        for way in _ways(replace(limit, packed=limit.packed and packable, fused=right)):
            if way.packed and cannot_be_packed:
                continue
            try:
                problems[way] = self._problem_in_float32(way, expected, in_windows) or self._problem_in_own_type(way)
            except NotPackableError as error:
                cannot_be_packed, problems[way] = True, error.message
            if not problems[way]:
                self._refuse_what_only_answers(way)
                return replace(way, reasons=_reasons(way, limit, packable, own_code, problems))
        raise InputError(
            f"{self._name}: medqa does not compute {self._type} models as Transformers does "
            f"({list(problems.values())[-1]})",
            _HINT,
        )

    def _problems_of_layers(self, kinds: Sequence[str]) -> dict[str, str]:
        """Say for each of the kinds that the model has why its layers keep their own code; empty: they need not.

        Each is tried together with the kinds before it that are right.
        """
        problems: dict[str, str] = {}
        for kind, layer in first_layers(self._model).items():
            if kind in kinds:
                right = (other for other, problem in problems.items() if not problem)
                problems[kind] = self._problem_of_layer(layer, kind, (*right, kind))
        return problems

    def _problem_in_float32(self, way: Way, expected: _Expected, in_windows: _Expected | None) -> str:
        """Say what is wrong with a way in float32, as it is or with short windows; empty where nothing is."""
        with self._in_float32():
            problem = self._problem_of(way, expected)
            if problem or in_windows is None:
                return problem
            with reduced_model.short_windows(self._causal_lm):
                return self._problem_of(way, in_windows)

    def _problem_in_own_type(self, way: Way) -> str:
        """Say what is wrong in the model's own type with a way that is right in float32; empty where nothing is."""
        if self._unit == torch.finfo(torch.float32).eps:
            return ""
        if self._expected_in_own_type is None:
            self._expected_in_own_type = self._expected()
        return self._problem_of(way, self._expected_in_own_type)

    def _expected(self) -> _Expected:
        truth = self._truth()
        return _Expected(truth, _distances(self._truth(moved=True), truth))

    @contextmanager
    def _in_float32(self) -> Iterator[None]:
        """Compute in float32, in which right and wrong are some five orders of magnitude apart."""
        changes = (self, "_unit", torch.finfo(torch.float32).eps), (self, "_dtype", torch.float32)
        with changed(*changes), reduced_model.in_float32(self._causal_lm):
            yield

    def _problem_of_layer(self, layer: Any, kind: str, kinds: tuple[str, ...]) -> str:
        """Say what is wrong with the first layer of a kind when it, and those of ``kinds`` in it, are fused.

        Empty where it computes the same.
        """
        linear = layer.gate_proj if kind == GATED_SILU else layer
        width = layer.weight.shape[-1] if kind == RMS_NORM else int(linear.in_features)
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn((1, sum(reduced_model.LENGTHS), width), generator=generator).to(self._device, self._dtype)
        # Dropout, if any, is part of what must be the same.
        modes = changed(*((module, "training", self._trains) for module in layer.modules()))

        def numbers(x: Tensor) -> _Numbers:
            torch.manual_seed(2)
            x = x.detach().requires_grad_(self._trains)
            return self._numbers(lambda: layer(x.clone()), [x, *(p for p in layer.parameters() if p.requires_grad)])

        try:
            with modes:
                unfuse_layers(layer)
                plain = numbers(inputs)
                noise = _distances(numbers(self._moved(inputs)), plain)
                fuse_layers(layer, kinds)
                return "which computes something else" if self._apart(numbers(inputs), plain, noise) else ""
        except Exception as error:  # whatever comes of a layer that only looked as if it could be replaced
            return f"since fused ones fail ({reason_of(error)})"
        finally:
            unfuse_layers(layer)

    def _truth(self, *, moved: bool = False) -> _Numbers:
        """Compute the examples one by one as Transformers does; ``moved``: with rounding errors in the embeddings."""
        use_own_attention(self._causal_lm)
        unfuse_layers(self._model)

        def losses() -> Tensor:
            return torch.cat([plain_losses(self._model, example) for example in self._examples])

        try:
            with self._embeddings_moved(moved):
                return self._numbers(losses, self._trained())
        except Exception as error:  # whatever an architecture raises that wants more than tokens
            raise _PlainForwardError(
                f"{self._name}: a {self._type} model does not compute a plain text by itself ({reason_of(error)})",
                _HINT,
            ) from error

    def _embeddings_moved(self, wanted: bool) -> Any:
        """Return a hook that puts rounding errors into the embeddings until it leaves its ``with``."""
        return self._causal_lm.get_input_embeddings().register_forward_hook(
            lambda module, args, output: self._moved(output) if wanted else None
        )

    def _refuse_later_tokens(self, noise: dict[str, float]) -> None:
        own = self._examples[-1]
        other = replace(own, input_ids=[*own.input_ids[:-1], self._examples[0].input_ids[0]])
        with torch.no_grad(), self._autocast():
            before, after = (plain_losses(self._model, example)[:-1] for example in (own, other))
        if self._apart({"values": after}, {"values": before}, noise):
            raise InputError(
                f"{self._name}: this {self._type} model sees the tokens that it is to predict", "take a causal model"
            )

    def _problem_of(self, way: Way, expected: _Expected) -> str:
        """Say in what a way differs from what is expected; empty where it does not.

        Raises:
            NotPackableError: the model's attention cannot be computed for several examples at once.
        """
        use_way(self._model, way)
        try:
            return self._apart(self._numbers(self._losses, self._trained()), *expected)
        except NotPackableError:
            raise
        except Exception as error:  # whatever an architecture raises in a way that is not its own
            return reason_of(error)

    def _losses(self) -> Tensor:
        return answer_token_losses(self._model, pack(self._examples, self._device))

    def problem_of_compiled(self) -> str:
        """Compile the layers; say in what they then differ from themselves before. Empty where they do not."""

        def numbers(moved: bool = False) -> _Numbers:
            with reduced_model.few_layers(self._causal_lm), reduced_model.undisturbed(self._model):
                self._model.train()  # another graph than in evaluation; dropout there is none
                with self._embeddings_moved(moved):
                    return self._numbers(self._losses, self._trained())

        plain = numbers()
        noise = _distances(numbers(moved=True), plain)
        compiled_layers.compile_layers(self._causal_lm)
        try:
            with compiled_layers.counted_graphs() as counted:
                problem = self._apart(numbers(), plain, noise)
        except Exception as error:  # whatever a compiler raises, or what it calls
            return f"the compiler fails ({reason_of(error)})"
        if counted["cuts"]:
            return "the compiler would cut a layer into pieces"
        return problem

    def _refuse_what_only_answers(self, way: Way) -> None:
        """Refuse a model whose forward pass fails in training."""
        if not self._trains:
            return
        use_way(self._model, way)
        self._model.train()
        try:
            with self._autocast():
                self._losses()
        except Exception as error:  # whatever an architecture wants for its training
            raise InputError(
                f"{self._name}: the forward pass of a {self._type} model fails in training ({reason_of(error)})", _HINT
            ) from error
        finally:
            self._model.eval()

    def _numbers(self, compute: Callable[[], Tensor], trained: Sequence[Tensor]) -> _Numbers:
        """Return values and, where the model is trained, the gradients of their weighted sum."""
        with torch.set_grad_enabled(self._trains), self._autocast():
            values = compute()
        numbers = {"values": values.detach().float()}
        if self._trains and trained:
            generator = torch.Generator().manual_seed(3)
            weights = torch.randn(values.shape, generator=generator).to(self._device)
            gradients = torch.autograd.grad((values.float() * weights).sum(), trained, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, trained, strict=True)]
            numbers["gradients"] = torch.cat([part.detach().float().flatten() for part in parts])
        return numbers

    def _trained(self) -> list[Tensor]:
        return [parameter for parameter in self._model.parameters() if parameter.requires_grad]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _moved(self, values: Tensor) -> Tensor:
        """Return values each of which is off by a rounding error."""
        generator = torch.Generator().manual_seed(4)
        signs = torch.randint(2, values.shape, generator=generator).to(values) * 2 - 1
        return values * (1 + self._unit * signs)

    def _apart(self, numbers: _Numbers, truth: _Numbers, noise: dict[str, float]) -> str:
        """Say whether numbers differ by more than the arithmetic lets them; empty where they do not."""
        for name, distance in _distances(numbers, truth).items():
            allowed = TIMES_ROUNDING * noise[name] + self._unit * float(torch.nan_to_num(truth[name]).norm())
            if not distance <= allowed:
                largest = float((numbers[name] - truth[name]).abs().max())
                return f"{name} differ by up to {largest:.2g}"
        return ""


def _distances(numbers: _Numbers, truth: _Numbers) -> dict[str, float]:
    """Return how far numbers are apart; what is finite in neither is not."""
    both = {name: (values, truth[name]) for name, values in numbers.items()}
    return {name: float(torch.where(a.isfinite() | b.isfinite(), a - b, 0.0).norm()) for name, (a, b) in both.items()}


def _reasons(
    way: Way, limit: Way, packable: bool, own_code: dict[str, str], problems: dict[Way, str]
) -> tuple[str, ...]:
    """Say why a way is slower than ``limit``.

    Args:
        way: the fastest that is right.
        limit: the fastest that might have been.
        packable: the model lets others compute its attention.
        own_code: kinds of layers -> why the first of them keeps its own code; empty where it need not.
        problems: what is wrong with the ways that were tried.
    """
    reasons = []
    if limit.packed and not way.packed:
        # That of the plainest packed way: what is left is the packing itself.
        tried = [problem for other, problem in problems.items() if other.packed]
        why = tried[-1] if packable else "its attention is computed by its own code only"
        reasons.append(
            f"examples are computed one at a time, with the model's own attention, since several in one forward pass "
            f"would come out wrong ({why}): right, and slower"
        )
    reasons += [
        f"{kind} layers keep their own code, {problem or 'which computes something else'}"
        for kind, problem in own_code.items()
        if kind not in way.fused
    ]
    if limit.in_chunks and not way.in_chunks:
        reasons.append("losses are taken from the whole logits, which take more memory")
    return tuple(reasons)
