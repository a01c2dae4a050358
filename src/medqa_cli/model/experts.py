"""The experts of a mixture as linear layers of their own, as the weight files hold them.

Transformers joins them, while it loads them, into parameters with three dimensions, which bitsandbytes does not
quantize: most weights of such a model would stay in 16 bits. Separate ones are linear layers like all others, for
quantization, for the memory plan, and for a merge, which writes the files' tensors.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from medqa_cli.model.changed import changed

_JOINED = ("gate_up_proj", "down_proj")
_IN_FILES = re.compile(r"(.*)\.experts\.\*\.(\w+)\.weight")
_SEPARATE = re.compile(r"\.experts\.\d+\.\w+\.weight")
# Published with joined experts, so that a plan without the files has to take them for such.
_JOINED_IN_FILES = ("qwen3_5_moe", "qwen3_vl_moe", "qwen4_exp")


class SeparateExperts(torch.nn.Module):
    """Experts with three linear layers each: ``down(act(gate(x)) * up(x))``, of the tokens that the router sends."""

    def __init__(self, joined: Any, names: tuple[str, str, str]) -> None:
        """Make layers without content.

        Args:
            joined: Transformers' module, with ``gate_up_proj`` (experts, 2 * inner, hidden) and ``down_proj``
                (experts, hidden, inner).
            names: of the layers gate, up and down.
        """
        super().__init__()
        self.act_fn, self._names = joined.act_fn, names
        self.num_experts, hidden, inner = joined.down_proj.shape
        for index in range(self.num_experts):
            expert = torch.nn.Module()
            for name, (columns, rows) in zip(names, ((hidden, inner), (hidden, inner), (inner, hidden)), strict=True):
                expert.add_module(
                    name, torch.nn.Linear(columns, rows, bias=False, device="meta", dtype=joined.down_proj.dtype)
                )
            self.add_module(str(index), expert)

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum of the experts' outputs.

        Args:
            hidden_states: ``(tokens, hidden)``.
            top_k_index: the experts of each token, ``(tokens, k)`` int64.
            top_k_weights: their weights, ``(tokens, k)``.
        """
        flat = top_k_index.flatten()
        # For each expert the places that name it.
        if isinstance(flat, FakeTensor):  # where only sizes count: as many for each
            places = torch.arange(len(flat), device=flat.device).tensor_split(self.num_experts)
        else:
            counts = torch.bincount(flat, minlength=self.num_experts).tolist()
            places = flat.argsort(stable=True).split(counts)
        result = torch.zeros_like(hidden_states)
        for index, chosen in enumerate(places):
            if not len(chosen):
                continue
            tokens = chosen // top_k_index.shape[1]
            gate, up, down = (getattr(self.get_submodule(str(index)), name) for name in self._names)
            x = hidden_states[tokens]
            x = down(self.act_fn(gate(x)) * up(x)) * top_k_weights.flatten()[chosen, None]
            result.index_add_(0, tokens, x.to(result.dtype))
        return result


def separate_experts(model: Any, stored: Iterable[str] | None = None) -> None:
    """Replace joined experts by separate ones without content, where they compute the same by Transformers' own code.

    Args:
        model: a causal language model without content (on the meta device).
        stored: names in the weight files; None: not known, experts are taken to be stored as they are published.
    """
    if stored is None:
        is_separate = not str(model.config.get_text_config().model_type).startswith(_JOINED_IN_FILES)
    else:
        is_separate = any(_SEPARATE.search(name) for name in stored)
    if not is_separate:
        return
    names = _names_in_files(model)
    for path, module in list(model.named_modules()):
        found = next((names[suffix] for suffix in names if path.endswith(suffix)), None)
        if found is not None and _is_plain(module):
            separate = SeparateExperts(module, found)
            separate.requires_grad_(module.down_proj.requires_grad).train(module.training)
            model.set_submodule(path, separate)


def without_joining(conversions: list[Any], model: Any) -> list[Any]:
    """Return Transformers' conversions of weights while loading, without those that join the model's separate experts.

    Args:
        conversions: ``WeightRenaming`` and ``WeightConverter`` objects.
        model: what is loaded.
    """
    paths = experts_of(model)
    return [
        entry
        for entry in conversions
        if not any(f".{path}".endswith(_path_of(target)) for path in paths for target in _joins(entry))
    ]


def experts_of(model: Any) -> list[str]:
    """Return the names of the modules that hold separate experts."""
    return [name for name, module in model.named_modules() if isinstance(module, SeparateExperts)]


@contextmanager
def loading_separate_experts(stored: Iterable[str]) -> Iterator[None]:
    """Let Transformers, inside the block, load experts as layers of their own where it quantizes with bitsandbytes.

    Args:
        stored: names in the weight files.
    """
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
    from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer

    stored = list(stored)
    names = ("_process_model_before_weight_loading", "update_weight_conversions")

    def watched(kind: Any) -> list[tuple[Any, str, Any]]:
        prepare, convert = (getattr(kind, name) for name in names)

        def prepared(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            separate_experts(model, stored)
            return prepare(self, model, *args, **kwargs)

        def converted(self: Any, weight_conversions: list[Any], model: Any) -> Any:
            return convert(self, without_joining(weight_conversions, model), model)

        return [(kind, names[0], prepared), (kind, names[1], converted)]

    with changed(*watched(Bnb4BitHfQuantizer), *watched(Bnb8BitHfQuantizer)):
        yield


def _names_in_files(model: Any) -> dict[str, tuple[str, str, str]]:
    """Return the names of gate, up and down by the end of the path of the module that joins them."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    parts: dict[str, dict[str, list[str]]] = {}
    for entry in get_model_conversion_mapping(model):
        for target in _joins(entry):
            found = [_IN_FILES.fullmatch(source) for source in entry.source_patterns]
            parts.setdefault(_path_of(target), {})[target.rpartition(".")[2]] = [one[2] for one in found if one]
    whole = {path: part for path, part in parts.items() if [len(part.get(name, ())) for name in _JOINED] == [2, 1]}
    return {path: (*part[_JOINED[0]], part[_JOINED[1]][0]) for path, part in whole.items()}  # type: ignore[misc]


def _joins(entry: Any) -> list[str]:
    """Return what a conversion makes if it joins experts: names of joined parameters."""
    kinds = [type(operation).__name__ for operation in getattr(entry, "operations", ())]
    if not kinds or kinds[0] != "MergeModulelist" or len(entry.target_patterns) != 1:
        return []
    target = entry.target_patterns[0]
    expected = {_JOINED[0]: ["MergeModulelist", "Concatenate"], _JOINED[1]: ["MergeModulelist"]}
    return [target] if expected.get(target.rpartition(".")[2]) == kinds else []


def _path_of(target: str) -> str:
    """Return how the path of the module of a joined parameter ends, from a dot on."""
    return "." + target.rpartition(".")[0].lstrip(".")


def _is_plain(module: torch.nn.Module) -> bool:
    """Tell whether joined experts compute what separate ones do: Transformers' code for them is Mixtral's, to a byte.

    Others clamp, have biases, or hold their weights in another order.
    """
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts

    if {name for name, _ in module.named_parameters(recurse=False)} != set(_JOINED) or not hasattr(module, "act_fn"):
        return False
    # Below the choice among other implementations.
    forwards: list[Any] = [type(module).forward, MixtralExperts.forward]
    code, plain = (getattr(forward, "__wrapped__", forward).__code__ for forward in forwards)
    return (code.co_code, code.co_names, code.co_consts) == (plain.co_code, plain.co_names, plain.co_consts)
