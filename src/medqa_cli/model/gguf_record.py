"""``gguf.json``: which GGUF files ``medqa merge --gguf`` wrote, with their hashes, and of which adapter and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.files import read_json, sha256_of_file, write_json

RECORD_NAME = "gguf.json"
# Beside the files, Transformers would take this tokenizer for theirs.
PROMPT_FOLDER = "prompt"
_VERSION = 1
# q8_0 answers as f16 does (docs/gguf.md) at half the size.
BEST_FIRST = ("q8_0", "f16", "q4_0")
COST_FIGURES = ("top1_agreement", "mean_kl", "answer_nll", "adapter_nll")


@dataclass(frozen=True)
class Stamp:
    """A file as it was; where its time differs, its hash tells. No hash: only the time does."""

    name: str
    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path, *, hashed: bool = True) -> Stamp:
        """Return that of a file."""
        stat = path.stat()
        return cls(path.name, stat.st_size, stat.st_mtime_ns, sha256_of_file(path) if hashed else "")

    def fits(self, path: Path) -> bool:
        """Tell whether a file is that one."""
        try:
            stat = path.stat()
            same = (stat.st_size, stat.st_mtime_ns) == (self.bytes, self.mtime_ns)
            return same or (stat.st_size == self.bytes and sha256_of_file(path) == self.sha256)
        except OSError:
            return False


@dataclass(frozen=True)
class GgufRecord:
    """What was written.

    ``files`` by type; ``base``: the name of the adapter's base; ``adapter``: its weights; ``merged``: the weight files
    of the model that was written as GGUF; ``agreement``: how often it and base + adapter take the same token
    (``merge.json``), if that was measured; ``costs``: by type, how far the file's logits are from those of base +
    adapter (``top1_agreement``, ``mean_kl``, ``answer_nll``, ``adapter_nll``), empty where that was not measured.
    """

    files: Mapping[str, Stamp]
    base: str
    adapter: Stamp
    merged: tuple[Stamp, ...]
    agreement: float | None = None
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``gguf.json``."""
        write_json(folder / RECORD_NAME, {"format_version": _VERSION, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> GgufRecord | None:
        """Read ``gguf.json``; None: there is none that can be used."""
        try:
            found = read_json(folder / RECORD_NAME)
            if found["format_version"] != _VERSION:
                return None
            files = {kind: _stamp(found["files"][kind]) for kind in BEST_FIRST if kind in found["files"]}
            merged, agreement, base = tuple(map(_stamp, found["merged"])), found["agreement"], found["base"]
            if not isinstance(base, str) or not isinstance(agreement, float | int | None):
                return None
            costs = found.get("costs", {})
            figures = [value for cost in costs.values() for value in (cost[name] for name in COST_FIGURES)]
            if not all(isinstance(value, float | int) for value in figures):
                return None
            return cls(files, base, _stamp(found["adapter"]), merged, agreement, costs)
        except (InputError, ValueError, LookupError, TypeError, AttributeError):
            return None


def _stamp(values: Mapping[str, Any]) -> Stamp:
    stamp = Stamp(**values)
    texts, numbers = (stamp.name, stamp.sha256), (stamp.bytes, stamp.mtime_ns)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("a stamp has values of other types")
    if Path(stamp.name).name != stamp.name:
        raise ValueError("a stamp names a file of another folder")
    return stamp
