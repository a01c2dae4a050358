"""From a model's name (hub id, folder, GGUF file) to folders with its description and its weights.

A GGUF file is dequantized once and cached as a plain folder, keyed by the file's hash. Of a hub id, missing files are
downloaded into the hub's cache, unless ``HF_HUB_OFFLINE`` is set or the user did not name that id.
"""

import contextlib
import functools
import importlib.util
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medqa_cli import console, hub
from medqa_cli.errors import InputError, MedqaError, first_line, out_of_memory
from medqa_cli.files import as_umask_says, atomic_dir, is_full_disk, sha256_of_file
from medqa_cli.model.checks.gguf_header import read_header, refuse_what_would_be_lost
from medqa_cli.model.checks.loading import SMALL_MODEL_INSTALL, SMALL_MODEL_PACKAGE, THREE_WAYS, loading

PACKAGE_PREFIX = "package:"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# Characters; in bytes, these are the limits of Linux for a path and for each of its parts.
_MOST_NAME, _MOST_PART = 4000, 255
# Raise it when the conversion below changes, so that old folders are not reused.
_CACHE_VERSION = 3
# Config, tokenizer, chat templates; no weights, and no program code.
_DESCRIBING = ["*.json", "*.jinja", "*.txt", "*.model"]


@dataclass(frozen=True)
class ModelRef:
    """Where a base model lies.

    ``name``: as the config gives it; ``location``: what ``from_pretrained`` takes; ``revision``: hub only.
    """

    name: str
    location: str
    kind: Literal["hub", "folder", "gguf"]
    revision: str | None = None


def find_base(
    name_or_path: str | None, revision: str | None = None, *, named_by: str = "model.name_or_path", by_user: bool = True
) -> ModelRef:
    """Find the model that the config names. A GGUF file is converted at its first use (about 20 s).

    Args:
        name_or_path: hub id, folder, ``.gguf`` file or ``package:`` name.
        revision: branch, tag or commit, for a hub id.
        named_by: the key or option that names it, for the message.
        by_user: the user named it, so that a hub id may be downloaded; an adapter's file is not the user.

    Raises:
        InputError: it is not there; the message names the three ways to get one.
    """
    if not name_or_path:
        raise InputError(
            f"{named_by} is not set: no model to work with",
            f"`medqa config init` writes a config with a model that suits this machine; {THREE_WAYS}",
        )
    if len(name_or_path) > _MOST_NAME or any(len(part) > _MOST_PART for part in name_or_path.split("/")):
        raise InputError(f"{named_by}: no file system has a name as long as {name_or_path[:60]} ...", THREE_WAYS)
    path = _path_of(name_or_path, named_by)
    if is_gguf(path):
        if not path.is_file():
            raise InputError(f"{named_by}: no file {name_or_path}", THREE_WAYS)
        return ModelRef(name_or_path, str(_converted_gguf(path)), "gguf")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{named_by}: the folder {name_or_path} holds no config.json", THREE_WAYS)
        return ModelRef(name_or_path, str(path), "folder")
    if path.exists() or not _HUB_ID.fullmatch(name_or_path):
        raise InputError(f"{named_by}: {name_or_path} is neither a folder, a .gguf file nor a hub id", THREE_WAYS)
    if by_user:
        hub.name_repository(name_or_path)
    return ModelRef(name_or_path, name_or_path, "hub", revision)


def gguf_file(name_or_path: str | None, *, named_by: str = "model.name_or_path") -> Path | None:
    """Return the GGUF file that a name stands for; None: it stands for something else, or for a file that is not there.

    Raises:
        InputError: the package that it names is not installed or has no such file.
    """
    if not name_or_path or len(name_or_path) > _MOST_NAME:
        return None
    path = _path_of(name_or_path, named_by)
    return path if is_gguf(path) and path.is_file() else None


def is_gguf(path: Path) -> bool:
    """Tell whether a path is that of a GGUF file, by its name."""
    return path.suffix.lower() == ".gguf"


def _path_of(name_or_path: str, named_by: str) -> Path:
    if not name_or_path.startswith(PACKAGE_PREFIX):
        return Path(name_or_path).expanduser()
    package, _, inner = name_or_path.removeprefix(PACKAGE_PREFIX).partition("/")
    # find_spec looks the package up without running its code.
    spec_of_package = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec_of_package is None or not spec_of_package.submodule_search_locations:
        hint = f"run: {SMALL_MODEL_INSTALL}" if package == SMALL_MODEL_PACKAGE else f"install it, or: {THREE_WAYS}"
        raise InputError(f"{named_by}: the Python package {package!r} is not installed", hint)
    path = Path(next(iter(spec_of_package.submodule_search_locations))) / inner
    if ".." in Path(inner).parts or not path.is_file():
        raise InputError(f"{named_by}: the package {package} ships no file {inner!r}", THREE_WAYS)
    return path


def gguf_tokenizer_folder(path: Path) -> Path:
    """Return a folder with the tokenizer of a GGUF file, as Transformers reads it; it is made once and kept.

    Raises:
        InputError: the file holds no tokenizer that Transformers reads.
    """
    key = f"{path.stem}-{sha256_of_file(path)[:16]}-v{_CACHE_VERSION}"
    for folder in (cache_dir() / "models" / key, cache_dir() / "tokenizers" / key):
        if (folder / "tokenizer.json").is_file():
            return folder
    try:
        with contextlib.redirect_stderr(io.StringIO()), atomic_dir(folder) as temporary:
            read_header(path)
            _save_tokenizer(path, temporary)
    except (MedqaError, MemoryError):
        raise
    except Exception as error:  # as of _converted_gguf
        raise InputError(f"cannot read the tokenizer in {path.name}: {first_line(error)}", THREE_WAYS) from error
    return folder


def cache_dir() -> Path:
    """Return medqa's cache folder: ``MEDQA_CACHE_DIR``, else ``medqa`` under the user's cache folder."""
    if chosen := os.environ.get("MEDQA_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medqa"


def _converted_gguf(path: Path) -> Path:
    with console.status(f"looking at {path.name} ..."):
        folder = cache_dir() / "models" / f"{path.stem}-{sha256_of_file(path)[:16]}-v{_CACHE_VERSION}"
    if (folder / "config.json").is_file():
        return folder
    console.note(f"dequantizing {path.name} once into {folder} ...")
    try:
        # Its progress bars cannot be switched off and would cut through our own output.
        with (
            console.status(f"dequantizing {path.name} ...") as tell,
            contextlib.redirect_stderr(_Bar(lambda percent: tell(f"dequantizing {path.name}: {percent} % ..."))),
            atomic_dir(folder) as temporary,
        ):
            _dequantize(path, temporary)
    except (MedqaError, MemoryError):
        raise
    except Exception as error:  # Transformers and gguf meet odd files with errors of every kind
        if (isinstance(error, OSError) and is_full_disk(error)) or out_of_memory(error) is not None:
            raise
        message = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot read {path.name} as a GGUF model: {message[:300]}", THREE_WAYS) from error
    return folder


class _Bar(io.StringIO):
    """Takes what the bar of Transformers writes, and tells how far it is, in percent; without it, nothing is told."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def write(self, text: str) -> int:
        if found := re.search(r"de-quantizing.*?(\d+)%", text):
            self._tell(found[1])
        return len(text)


def _dequantize(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    from medqa_cli.model.checks.loaded_weights import load_whole

    hub.ask_only_what_is_named()
    refuse_what_would_be_lost(read_header(path))
    # dequantize=True: otherwise Transformers keeps the weights packed and refuses to save or quantize them.
    how = {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True), "dtype": torch.bfloat16}
    model = load_whole(AutoModelForCausalLM, path.parent, path.name, **how)
    model.save_pretrained(folder)
    _save_tokenizer(path, folder)


def _save_tokenizer(path: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    tokenizer.save_pretrained(folder)


def described_folder(location: str, revision: str | None, what: str) -> Path:
    """Return the folder with config and tokenizer of a hub id or folder; ``what`` of it is wanted, for messages.

    Raises:
        InputError: a hub model is not there and cannot be downloaded.
    """
    if Path(location).is_dir():
        return Path(location)
    _require_reachable(location)
    with loading(what, location):
        return _snapshot(location, revision)


@functools.cache
def _snapshot(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    with as_umask_says():
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_DESCRIBING, tqdm_class=None))


def base_folder(source: ModelRef) -> Path:
    """Return the folder that holds the base's config and weights.

    Raises:
        InputError: a hub model is not there and cannot be downloaded.
    """
    if source.kind != "hub":
        return Path(source.location)
    from huggingface_hub.errors import HfHubHTTPError

    from medqa_cli.model.weights import WEIGHT_FILES, shard_names  # needs torch, which a GGUF file does without

    hub.ask_only_what_is_named()
    _require_reachable(source.location)
    try:
        config = _from_hub(source, "config.json")
        if config is None:
            raise InputError(f"{source.name} holds no config.json", THREE_WAYS)
        weights = next((path for name in WEIGHT_FILES if (path := _from_hub(source, name))), None)
        if weights is None:
            raise InputError(f"{source.name} holds no weights that medqa reads", THREE_WAYS)
        for name in shard_names(weights) if weights.name.endswith(".index.json") else []:
            with console.status(f"looking for {name} of {source.name} ..."):
                if _from_hub(source, name) is None:
                    raise InputError(f"{source.name} has no file {name}, which its index names", THREE_WAYS)
        _from_hub(source, "generation_config.json")
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise InputError(f"cannot get {source.name}: {first_line(error)}", THREE_WAYS) from error
    return config.parent


def _require_reachable(repository: str) -> None:
    """Refuse a model that an adapter names, the config does not, and the hub's cache does not hold."""
    from huggingface_hub import try_to_load_from_cache

    if hub.is_named(repository) or isinstance(try_to_load_from_cache(repository, "config.json"), str):
        return
    raise InputError(
        f"the adapter was trained on {repository}, which is not on this machine, and the config names another model",
        f"to let medqa download it, set model.name_or_path: {repository}; {THREE_WAYS}",
    )


def _from_hub(source: ModelRef, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        with as_umask_says():
            return Path(hf_hub_download(source.location, name, revision=source.revision))
    except EntryNotFoundError:  # also: not in the cache, and no network
        return None
