"""Checks that a model computes with the weights of its files: none drawn at random, none left out, all of them numbers.

Transformers draws a weight that the files lack at random and says so in a log line only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.model.changed import changed

_MOST_NAMES = 4
_AGAIN = "copy or download the model again"


@dataclass
class LoadedWeights:
    """What was seen while a model was loaded: weights that are no numbers, and those of another shape."""

    not_finite: set[str] = field(default_factory=set)
    wrong_shapes: set[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=set)

    def check(self, model: Any, info: Mapping[str, Any], name: str) -> None:
        """Check that a model is the one of its files.

        Args:
            model: what Transformers loaded.
            info: what it says of that (``output_loading_info``), with what may be missing left out already: tied
                weights, and what the architecture computes by itself.
            name: of the base, for the message.

        Raises:
            InputError: weights are missing, of another shape, NaN or infinite.
        """
        self.wrong_shapes |= {
            (key, tuple(in_files), tuple(in_model)) for key, in_files, in_model in info["mismatched_keys"]
        }
        missing = set(info["missing_keys"])
        none_fits = missing >= {key for key, _ in model.named_parameters()}
        refuse_missing(missing, info["unexpected_keys"], name, none_fits=none_fits)
        if self.wrong_shapes:
            key, in_files, wanted = min(self.wrong_shapes)
            raise InputError(
                f"{len(self.wrong_shapes)} weights of {name} have another shape than its config.json says, such as "
                f"{key}: {by(in_files)} in the files, {by(wanted)} in the model",
                "take config.json and weights from the same model",
            )
        if broken := self.not_finite | _not_finite(model):
            narrow = "; float16 ends at 65,504: try model.compute_dtype: float32" * (model.dtype == torch.float16)
            raise InputError(
                f"weights of {name} are not finite numbers (NaN or infinite): {grouped(broken)}",
                f"{_AGAIN}; where a training run or a conversion made it, that one failed{narrow}",
            )
        # Said where it looks like no part of the model, warned of where it does: a bias, one more layer.
        unused = sorted(info["unexpected_keys"])
        modules = {_pattern(key) for key, _ in model.named_modules()}
        parts = [key for key in unused if _pattern(key.rpartition(".")[0]) in modules]
        if parts:
            console.warn(
                f"the files of {name} hold weights that its config.json has no place for; the model is computed "
                f"without: {grouped(parts)}"
            )
        if others := [key for key in unused if key not in parts]:
            console.note(f"{name}: not part of the language model and left out: {grouped(others)}")


def load_whole(kind: Any, folder: Path, name: str, weights: LoadedWeights | None = None, **how: Any) -> Any:
    """Load a model by Transformers, and check that it has the weights of its files.

    Args:
        kind: the class whose ``from_pretrained`` loads it.
        folder: where its files are.
        name: of the base, for messages.
        weights: what is seen of the weights meanwhile.
        how: more arguments of ``from_pretrained``.

    Raises:
        InputError: as of ``LoadedWeights.check``.
    """
    # Shapes that differ are an error in the words of Transformers otherwise; ``check`` says more.
    model, info = kind.from_pretrained(
        folder, trust_remote_code=False, ignore_mismatched_sizes=True, output_loading_info=True, **how
    )
    (weights or LoadedWeights()).check(model, info, name)
    return model


@contextmanager
def watching_quantization() -> Iterator[LoadedWeights]:
    """Look at each weight before bitsandbytes quantizes it inside the block.

    Afterwards it is too late: its kernels for GPUs leave NaN out when they look for the largest value of a block and
    make a number of it, and Transformers does not compare the shapes of quantized weights.
    """
    from transformers.integrations.bitsandbytes import Bnb4bitQuantize, Bnb8bitQuantize

    seen = LoadedWeights()

    def watched(original: Any) -> Any:
        def convert(self: Any, input_dict: Any, *args: Any, **kwargs: Any) -> Any:
            for key, value in input_dict.items():
                tensor = value[0] if isinstance(value, list) else value
                wanted = tuple(kwargs["model"].get_parameter_or_buffer(key).shape)
                if tuple(tensor.shape) not in (wanted, wanted[::-1]):  # Conv1D layers are stored the other way round
                    seen.wrong_shapes.add((key, tuple(tensor.shape), wanted))
                if not is_finite(tensor):
                    seen.not_finite.add(key)
            return original(self, input_dict, *args, **kwargs)

        return convert

    with changed(*((kind, "convert", watched(kind.convert)) for kind in (Bnb4bitQuantize, Bnb8bitQuantize))):
        yield seen


def is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether all values are finite numbers; integers are, and so is a tensor without content."""
    if not tensor.is_floating_point() or tensor.device.type == "meta" or not tensor.numel():
        return True
    if tensor.element_size() == 1:  # float8 has no order
        tensor = tensor.float()
    # The two ends are enough, and ten times as quick as a look at each value; both are NaN where there is one.
    return bool(torch.stack(tensor.detach().aminmax()).isfinite().all())


def refuse_missing(missing: Iterable[str], unexpected: Iterable[str], name: str, *, none_fits: bool = False) -> None:
    """Refuse a base whose files lack weights of the model.

    Args:
        missing: names of weights that the model has and the files do not.
        unexpected: names in the files that the model does not have.
        name: of the base, for the message.
        none_fits: no name in the files is one of the model's.

    Raises:
        InputError: there are any.
    """
    missing, unexpected = list(missing), list(unexpected)
    if not missing:
        return
    if none_fits and unexpected:
        what = f"no weight in the files of {name} has a name of the model: they hold {grouped(unexpected)}, and it has"
    else:
        what = f"the files of {name} lack {len(missing)} weights of the model:"
    raise InputError(
        f"{what} {grouped(missing)}",
        f"they would be drawn at random. {_AGAIN.capitalize()}; where a script saved it, save it with save_pretrained, "
        "so that names and config.json go together",
    )


def grouped(names: Iterable[str]) -> str:
    """Return names for a message, the numbers of layers joined, at most a few."""
    from transformers.utils.loading_report import update_key_name

    joined = list(update_key_name(dict.fromkeys(sorted(names), "")))
    more = len(joined) - _MOST_NAMES
    return ", ".join(joined[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _not_finite(model: torch.nn.Module) -> set[str]:
    """Return the names of stored weights that are not finite; of quantized ones the constants carry the size."""
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    # Masks and the like are computed, and may be infinite.
    not_stored = {key for key, _ in model.named_buffers()} - model.state_dict().keys()
    broken = set()
    for key, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        state: Any = getattr(tensor, "quant_state", None)
        scales: Any = getattr(tensor, "SCB", None)
        numbers = [] if state is not None else [tensor if scales is None else scales]
        while state is not None:
            numbers += [state.absmax, *([] if state.offset is None else [state.offset])]
            state = state.state2
        if key not in tied and key not in not_stored and not all(map(is_finite, numbers)):
            broken.add(key)
    return broken


def _pattern(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def by(shape: Sequence[int]) -> str:
    """Return a shape for a message."""
    return " x ".join(map(str, shape))
