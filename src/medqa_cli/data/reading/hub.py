"""Streams a data set of the Hugging Face hub: ``owner/name[@revision][:split | :config/split | :config/]``.

No code of a data set is run, and nothing is downloaded that was not named.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli import hub
from medqa_cli.data.dataset import SPLITS
from medqa_cli.data.reading import shapes
from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.pairs import questions_and_answers
from medqa_cli.errors import InputError, out_of_memory
from medqa_cli.spelling import did_you_mean, listed

_ID = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95})"
    r"(@(?P<revision>[^:\s]+))?(:((?P<config>[^/:\s]+)/)?(?P<split>[^/:\s]*))?"
)


@dataclass(frozen=True)
class HubId:
    """A data set as its user named it."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None


def parse_hub_id(text: str) -> HubId | None:
    """Return the parts of a hub id, or None where the text has another form."""
    match = _ID.fullmatch(text)
    if match is None or ".." in match["name"] or "--" in match["name"]:
        return None
    return HubId(match["name"], match["revision"], match["config"], match["split"] or None)


def open_hub(text: str, prefix: str, wanted: shapes.ColumnNames) -> shapes.Opened:
    """Open a data set of the hub: all its splits (train, validation, test, others), or the one that is named.

    Args:
        text: the id as the user gave it.
        prefix: what stands before the split in the ``file`` of the rows, ``/`` included; may be empty.
        wanted: the columns that the user named.

    Returns:
        one table for each split, the commit that they are from and the license of the card, where these are known.

    Raises:
        InputError: the hub or the data set cannot be reached or read, or a split or column is missing.
    """
    hub_id = parse_hub_id(text)
    if hub_id is None:
        raise InputError(
            f"'{text}' is not a data set id", "expected owner/name, owner/name@revision or owner/name:split"
        )
    hub.name_repository(hub_id.name)
    hub.ask_only_what_is_named()
    import datasets
    import huggingface_hub

    commit = license = None
    with contextlib.suppress(Exception):  # what is wrong is reported below
        info = huggingface_hub.dataset_info(hub_id.name, revision=hub_id.revision, timeout=20)
        commit = info.sha
        license = info.card_data.get("license") if info.card_data else None
    datasets.disable_progress_bars()
    with _reported(hub_id):
        # No trust_remote_code: a data set that needs its own code is refused by the library.
        splits: Mapping[str, Any] = datasets.load_dataset(
            hub_id.name, name=hub_id.config, revision=commit or hub_id.revision, streaming=True
        )
    names = sorted(splits, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))
    if hub_id.split is not None:
        if hub_id.split not in splits:
            raise InputError(
                f"{hub_id.name} has no split '{hub_id.split}'; it has {listed(names)}"
                f"{did_you_mean(hub_id.split, names)}",
                f"name one: {hub_id.name}:SPLIT, or {hub_id.name}:CONFIG/SPLIT for another configuration",
            )
        names = [hub_id.split]
    tables = [_table(splits[name], hub_id, name, prefix, wanted) for name in names]
    return shapes.Opened(text, tables, commit=commit, license=license if isinstance(license, str) else None)


def _table(split: Any, hub_id: HubId, name: str, prefix: str, wanted: shapes.ColumnNames) -> shapes.PairTable:
    file = shapes.TableFile(Path(), f"{hub_id.name}:{name}", prefix + name)
    with _reported(hub_id):
        header = split.column_names or list(next(iter(split), {}))
    if not header:
        raise InputError(f"{file} has no rows", f"name another split: {hub_id.name}:SPLIT")
    columns = find_columns(wanted, header, file)
    description = f"hub data set, split '{name}'"
    return shapes.opened_again(
        lambda: questions_and_answers(
            shapes.CellTable(description, columns, _rows(split, hub_id, columns)), file, wanted.caps
        )
    )


def _rows(split: Any, hub_id: HubId, columns: shapes.Columns) -> Iterator[shapes.CellRow]:
    records = iter(split)
    for row in itertools.count(1):
        with _reported(hub_id):
            record: Mapping[str, Any] | None = next(records, None)
        if record is None:
            return
        yield shapes.CellRow(row, None, [record.get(name) for name in columns.names])


@contextlib.contextmanager
def _reported(hub_id: HubId) -> Iterator[None]:
    """Turn whatever the library raises into InputError, which carries the exception.

    Only its calls stand inside of this, none of medqa's own code; memory that runs out is no fault of the data set.
    """
    from datasets.exceptions import DatasetNotFoundError

    name = hub_id.name
    try:
        yield
    except DatasetNotFoundError as error:
        raise InputError(
            f"the hub has no data set '{name}' that you may read: {error}",
            "check the name and the revision; a gated one: accept its terms on its page, then run: hf auth login. "
            "A local file or folder of that name does not exist either",
        ) from error
    except ConnectionError as error:
        raise InputError(
            f"the hub cannot be reached for '{name}': {error}",
            "check the network and HF_HUB_OFFLINE; or on a machine that is online: "
            f"hf download {name} --repo-type dataset --local-dir DIR, and then: medqa convert DIR",
        ) from error
    except Exception as error:  # of httpx, pyarrow, fsspec, zlib and its own readers: no class in common
        if out_of_memory(error) is not None:
            raise
        hint = f"download it (hf download {name} --repo-type dataset --local-dir DIR) and name the file to convert"
        if "scripts are no longer supported" in str(error):
            hint = f"it needs its own program code, which medqa does not run; {hint}"
        if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
            hint = f"name a configuration: medqa convert {name}:CONFIG/ or {name}:CONFIG/SPLIT"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"'{name}' cannot be read from the hub: {reason}", hint) from error
