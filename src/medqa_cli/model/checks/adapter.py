"""What an adapter may say and hold: the values of ``adapter_config.json``, and an effect in every layer that it names.

PEFT takes values as they stand: a rank of another type fails in the middle of its layers, a pattern that never ends
never ends, other methods change the base's weights. And it accepts an adapter that is empty, made for other layers, or
all zero, which answers like the base.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.confined import Limits, call
from medqa_cli.errors import InputError
from medqa_cli.model.checks.loaded_weights import grouped, is_finite
from medqa_cli.model.checks.loading import Checks, are_token_ids, is_integer, is_number, read_object, shown
from medqa_cli.resources import load_yaml

ADAPTER_CONFIG_NAME = "adapter_config.json"
_HINT = "train again, or restore the file"
_MOST_RANK = 1 << 15
_MOST_ALPHA = 1e7
_MOST_LAYERS = 1 << 12
# Others start from data, or without end: pissa_niter_999999999.
_STARTS = re.compile(r"gaussian|eva|orthogonal|olora|pissa|pissa_niter_\d{1,3}")
_SWITCHES = ("fan_in_fan_out", "use_rslora", "use_dora", "inference_mode", "lora_bias", "ensure_weight_tying")
# A name of modules: what a regular expression of these characters matches is clear at once.
_PLAIN_NAME = re.compile(r"[\w.\-]*")
_PATTERN_LIMITS = Limits(seconds=10.0, memory_bytes=256 << 20)


def read_adapter_config(adapter_dir: Path) -> dict[str, Any]:
    """Read and check the config of an adapter.

    Raises:
        InputError: there is none, it is damaged, of another method than LoRA, or a value is not what it may be.
    """
    path = adapter_dir / ADAPTER_CONFIG_NAME
    if not path.is_file():
        raise InputError(f"no adapter in {adapter_dir}", "train one: medqa train")
    values = read_object(path)
    kind = values.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"the adapter in {adapter_dir} is of type {shown(kind)}; medqa knows LORA (with rsLoRA and DoRA)", _HINT
        )
    checks = Checks(path, values, _HINT)
    for key in ("r", "lora_alpha"):
        if values.get(key) is None:
            checks.refuse(key, "a number")
    checks.integer("r", 1, _MOST_RANK)
    checks.number("lora_alpha", 0, _MOST_ALPHA)
    checks.number("lora_dropout", 0, 0.9999)
    checks.one_of("bias", ("none", "all", "lora_only"))
    checks.one_of("task_type", ("CAUSAL_LM",))
    for key in _SWITCHES:
        checks.kind(key, bool, "true or false")
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        checks.names(key)
    for key in ("modules_to_save", "target_parameters"):
        checks.names(key, alone=False)
    for key in ("base_model_name_or_path", "revision"):
        checks.kind(key, str, "a name")
    _check_layers(checks, values)
    start = values.get("init_lora_weights")
    if not (start is None or isinstance(start, bool) or (isinstance(start, str) and _STARTS.fullmatch(start))):
        checks.refuse("init_lora_weights", "true, false or gaussian; other starts change the base's own weights")
    for key, reason in load_yaml("adapter_features")["not_loaded"].items():
        # An empty one switches it on as well.
        if values.get(key) not in (None, False):
            raise InputError(f"cannot load the adapter in {adapter_dir}: {reason}", "save it as a plain LoRA")
    return values


def refuse_endless_patterns(values: dict[str, Any], names: Sequence[str], adapter_dir: Path) -> None:
    """Match the regular expressions of a config against the names of layers, as PEFT will, in a child first.

    Raises:
        InputError: one does not end in seconds, or is none.
    """
    patterns = {*_texts(values.get("rank_pattern")), *_texts(values.get("alpha_pattern"))}
    patterns |= {*_texts(values.get("layers_pattern")), *_texts(values.get("modules_to_save"))}
    for key in ("target_modules", "exclude_modules"):
        if isinstance(values.get(key), str):
            patterns.add(values[key])
    odd = sorted(pattern for pattern in patterns if not _PLAIN_NAME.fullmatch(pattern))
    if odd:
        path = str(adapter_dir / ADAPTER_CONFIG_NAME)
        call(_match_all, odd, list(names), what=path, hint=_HINT, limits=_PATTERN_LIMITS)


def _match_all(patterns: list[str], names: list[str]) -> None:
    """Match in the ways of PEFT 0.21 (``tuners_utils``, ``utils/other``); runs in the child.

    Raises:
        InputError: one is not a regular expression.
    """
    for pattern in patterns:
        forms = (rf"(.*\.)?({pattern})$", rf"(^|.*\.){pattern}($|\..*)", rf"(?:^|.*?\.){pattern}\.(\d+)\.")
        try:
            for form in (pattern, *forms):
                compiled = re.compile(form)
                for name in names:
                    compiled.fullmatch(name)
                    compiled.match(name)
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(f"{shown(pattern)} is not a regular expression: {error}", _HINT) from error


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value or () if isinstance(item, str)]


def _check_layers(checks: Checks, values: dict[str, Any]) -> None:
    """Check what a config says of single layers and tokens."""
    for key, low, most, is_kind, words in (
        ("rank_pattern", 1, _MOST_RANK, is_integer, f"ranks from 1 to {_MOST_RANK:,}"),
        ("alpha_pattern", 0, _MOST_ALPHA, is_number, f"numbers from 0 to {_MOST_ALPHA:g}"),
    ):
        checks.kind(key, dict, f"an object with {words}")
        if not all(is_kind(number) and low <= number <= most for number in (values.get(key) or {}).values()):
            checks.refuse(key, f"an object with {words}")
    layers: Any = values.get("layers_to_transform")
    listed = layers if isinstance(layers, list) else [layers]
    if layers is not None and not all(is_integer(number) and number in range(_MOST_LAYERS) for number in listed):
        checks.refuse("layers_to_transform", "numbers of layers")
    repeated = values.get("layer_replication")
    if repeated is not None:
        ranges = repeated if isinstance(repeated, list) else [repeated]
        are_ranges = all(
            isinstance(pair, list) and len(pair) == 2 and all(map(is_integer, pair)) and 0 <= pair[0] < pair[1]
            for pair in ranges
        )
        if not are_ranges or sum(end - start for start, end in ranges) > _MOST_LAYERS:
            checks.refuse("layer_replication", f"a list of [first, end] pairs, of {_MOST_LAYERS:,} layers at most")
    tokens = values.get("trainable_token_indices")
    for ids in tokens.values() if isinstance(tokens, dict) else [] if tokens is None else [tokens]:
        if not are_token_ids(ids):
            checks.refuse("trainable_token_indices", "token ids")
    ids = values.get("alora_invocation_tokens")
    if ids is not None and not are_token_ids(ids):
        checks.refuse("alora_invocation_tokens", "token ids")


def check_effect(adapted: Any, adapter_dir: Path) -> None:
    """Refuse an adapter that leaves layers of its own config, or all of the model, as they are.

    PEFT ignores tensors whose names it does not know, and starts what a file lacks at zero.

    Raises:
        InputError: tensors find no layer, layers find no tensor, nothing is changed, or values are no numbers.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(adapter_dir), device="cpu")
    result = set_peft_model_state_dict(adapted, weights)
    lacking = [
        name for name in result.missing_keys if ".default" in name and ("lora_" in name or "modules_to_save" in name)
    ]
    refuse_unmatched(
        [name.replace(".default", "") for name in lacking], result.unexpected_keys, len(weights), adapter_dir
    )
    broken = [name for name, tensor in weights.items() if not is_finite(tensor)]
    if broken:
        raise InputError(
            f"the adapter in {adapter_dir} holds values that are not finite (NaN or infinite): {grouped(broken)}",
            "its training diverged; train again with a lower learning rate",
        )
    # A trained magnitude (DoRA), bias or whole layer has an effect as well.
    others = [
        name for name in weights if ".lora_A" not in name and ".lora_B" not in name and "lora_embedding" not in name
    ]
    idle = [name for name, tensor in weights.items() if is_b_matrix(name) and not tensor.count_nonzero()]
    refuse_idle(idle, sum(map(is_b_matrix, weights)), adapter_dir, has_others=bool(others))


def refuse_unmatched(missing: Sequence[str], unexpected: Sequence[str], num_tensors: int, adapter_dir: Path) -> None:
    """Refuse an adapter whose tensors and layers do not go together.

    Args:
        missing: tensors that its config asks for and its file lacks.
        unexpected: tensors in its file for which the base has no layer.
        num_tensors: in its file.
        adapter_dir: where it lies.

    Raises:
        InputError: there are any.
    """
    hint = "check that the adapter was trained on this base (base_model_name_or_path), or restore its files"
    if unexpected:
        raise InputError(
            f"{len(unexpected)} of {num_tensors} tensors of the adapter in {adapter_dir} belong to no layer of the "
            f"base: {grouped(unexpected)}",
            hint,
        )
    if missing:
        raise InputError(
            f"the adapter in {adapter_dir} is incomplete: its file lacks {len(missing)} tensors of the layers that "
            f"{ADAPTER_CONFIG_NAME} names: {grouped(missing)}",
            hint,
        )


def refuse_idle(idle: Sequence[str], num_layers: int, adapter_dir: Path, *, has_others: bool) -> None:
    """Refuse an adapter that changes nothing; warn of one that changes some of its layers only.

    Args:
        idle: B matrices that are zero.
        num_layers: how many there are.
        adapter_dir: where it lies.
        has_others: there are trained tensors beside A and B.

    Raises:
        InputError: it changes nothing.
    """
    if len(idle) == num_layers and not has_others:
        raise InputError(
            f"the adapter in {adapter_dir} changes nothing: all its B matrices are zero, as before a training run",
            "train it: medqa train; or ask and measure the base by itself: --model base",
        )
    if idle:
        console.warn(
            f"the adapter in {adapter_dir} changes nothing in {len(idle)} of its {num_layers} layers, where B is zero: "
            f"{grouped(idle)}"
        )


def is_b_matrix(name: str) -> bool:
    """Tell whether a tensor of an adapter is a B matrix, of a linear layer or an embedding; they start at zero."""
    return "lora_B.weight" in name or "lora_embedding_B" in name
