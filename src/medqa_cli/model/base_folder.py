"""From a base model's name to a folder with its files: those that describe it, and those with its weights.

A hub id becomes its folder in the hub's cache; missing files are downloaded, unless ``HF_HUB_OFFLINE`` is set or the
user did not name that id. Does not read weights.
"""

from __future__ import annotations

import functools
from pathlib import Path

from medqa_cli import console, hub
from medqa_cli.errors import InputError
from medqa_cli.model.loading import first_line, loading
from medqa_cli.model.source import THREE_WAYS, BaseSource
from medqa_cli.model.weight_headers import WEIGHT_FILES, shard_names

# Config, tokenizer, chat templates; no weights, and no program code.
_DESCRIBING = ["*.json", "*.jinja", "*.txt", "*.model"]


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

    return Path(snapshot_download(repository, revision=revision, allow_patterns=_DESCRIBING, tqdm_class=None))


def base_folder(source: BaseSource) -> Path:
    """Return the folder that holds the base's config and weights.

    Raises:
        InputError: a hub model is not there and cannot be downloaded.
    """
    if source.kind != "hub":
        return Path(source.location)
    from huggingface_hub.errors import HfHubHTTPError

    hub.ask_only_what_is_named()
    _require_reachable(source.location)
    try:
        config = _from_hub(source, "config.json")
        if config is None:
            raise InputError(f"{source.name} holds no config.json", THREE_WAYS)
        found = next((path for name in WEIGHT_FILES if (path := _from_hub(source, name))), None)
        if found is None:
            raise InputError(f"{source.name} holds no weights that medqa reads", THREE_WAYS)
        for name in shard_names(found) if found.name.endswith(".index.json") else []:
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


def _from_hub(source: BaseSource, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source.location, name, revision=source.revision))
    except EntryNotFoundError:  # also: not in the cache, and no network
        return None
