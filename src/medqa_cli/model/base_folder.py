"""From a base model's name to a folder with its weight files.

A hub id becomes its folder in the hub's cache; missing files are downloaded, unless ``HF_HUB_OFFLINE`` is set. Does not
read weights.
"""

from __future__ import annotations

from pathlib import Path

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.model.source import THREE_WAYS, BaseSource
from medqa_cli.model.weight_headers import WEIGHT_FILES, shard_names


def base_folder(source: BaseSource) -> Path:
    """Return the folder that holds the base's config and weights.

    Raises:
        InputError: a hub model is not there and cannot be downloaded.
    """
    if source.kind != "hub":
        return Path(source.location)
    from huggingface_hub.errors import HfHubHTTPError

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
        raise InputError(f"cannot get {source.name}: {str(error).splitlines()[0]}", THREE_WAYS) from error
    return config.parent


def _from_hub(source: BaseSource, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source.location, name, revision=source.revision))
    except EntryNotFoundError:  # also: not in the cache, and no network
        return None
