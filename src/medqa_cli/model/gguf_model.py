"""Which GGUF file llama.cpp answers from, if it does; and that model with its prompt contract, without torch.

``gguf.json`` tells which files ``medqa merge --gguf`` wrote, with their hashes, and of which adapter and model.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

from medqa_cli.config.schema import Config, PromptConfig
from medqa_cli.errors import InputError, first_line
from medqa_cli.files import RunFolder, atomic_dir, read_json, sha256_of_file, write_json
from medqa_cli.model import llamacpp
from medqa_cli.model.checks.gguf_header import GGML_TYPES, read_header
from medqa_cli.model.llamacpp import LlamaWeights
from medqa_cli.model.resolve import ModelRef, cache_dir, gguf_file, gguf_tokenizer_folder
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract, make_contract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.fast_tokenizer import TOKENIZER_FILE_NAME, FastTokenizer

OF_RUN = "gguf"  # the choice of a run's own file, which llama.cpp answers whatever generate.engine says
RECORD_NAME = "gguf.json"
# Beside the files, Transformers would take this tokenizer for theirs.
PROMPT_FOLDER = "prompt"
_RECORD_VERSION = 1
# q8_0 answers as f16 does (docs/gguf.md) at half the size.
BEST_FIRST = ("q8_0", "f16", "q4_0")
COST_FIGURES = ("top1_agreement", "mean_kl", "answer_nll", "adapter_nll")
_CONTRACT_VERSION = 1  # raise it when contracts are made in another way


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
        write_json(folder / RECORD_NAME, {"format_version": _RECORD_VERSION, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> GgufRecord | None:
        """Read ``gguf.json``; None: there is none that can be used."""
        try:
            found = read_json(folder / RECORD_NAME)
            if found["format_version"] != _RECORD_VERSION:
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


@dataclass
class LlamaModel:
    """A model of llama.cpp in memory with the encoder of its prompts.

    ``name``: as it was chosen; ``source``: its base, or itself; ``quantization``: of most of its weights;
    ``agreement``: how often the merged model that it was made of and base + adapter take the same token, if known;
    ``cost``: how far the file's logits are from those of base + adapter, as ``gguf.json`` has it, empty if unknown.
    """

    name: str
    source: ModelRef
    weights: LlamaWeights
    encoder: PromptEncoder
    file: Path
    quantization: str
    agreement: float | None = None
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    file: Path
    source: ModelRef
    tokenizer_folder: Path | None = None  # None: made of the file
    agreement: float | None = None
    cost: Mapping[str, float] = field(default_factory=dict)


def llama_model(config: Config, choice: str) -> LlamaModel | None:
    """Load the GGUF file that stands for a model, where ``generate.engine`` lets llama.cpp answer; None: it does not.

    Args:
        config: the run, the engine, and how a model is asked that has no prompt contract beside it.
        choice: as ``load_model`` takes it, or ``gguf``: the run's own file, whatever the engine.

    Raises:
        InputError: only llama.cpp may answer, and there is no such file, or it cannot be used.
    """
    is_needed = choice == OF_RUN or config.generate.engine == "llamacpp"
    if choice == OF_RUN:
        require_file_of_run(config)
    found = _allowed(config, choice)
    if found is None:
        if not is_needed:
            return None
        raise InputError(
            f"generate.engine is llamacpp, and there is no GGUF file of {choice} as it is now",
            "write one: medqa merge --gguf q8_0; or take --set generate.engine=auto",
        )
    try:
        return _loaded(config, choice, found)
    except InputError:
        # Transformers may read what llama.cpp does not know; it says itself what is wrong with the file.
        if is_needed:
            raise
        return None


def require_file_of_run(config: Config) -> None:
    """Check that the run has a GGUF file of its adapter as it is now, and that llama.cpp is there.

    Raises:
        InputError: it is not.
    """
    run = config.run
    if _of_run(run, OF_RUN) is None:
        raise InputError(
            f"no GGUF file of the adapter as it is now in {run.gguf_dir}", "write one: medqa merge --gguf q8_0"
        )
    if not llamacpp.is_installed():
        raise InputError("llama.cpp, which answers from GGUF files, is not installed", llamacpp.INSTALL)


def llama_file(config: Config, choice: str) -> Path | None:
    """Return the GGUF file from which ``llama_model`` would answer; None: from none."""
    found = _allowed(config, choice)
    return None if found is None else found.file


def _allowed(config: Config, choice: str) -> _Found | None:
    engine = "llamacpp" if choice == OF_RUN else config.generate.engine
    # Whether Transformers would compute on a GPU, without torch, which takes seconds to import; a Mac may have MPS.
    devices = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
    has_gpu = sys.platform == "darwin" or any(map(Path.exists, devices))
    if engine == "transformers" or (engine == "auto" and (has_gpu or not llamacpp.is_installed())):
        return None
    if choice in ("adapter", "merged", OF_RUN):
        return _of_run(config.run, choice)
    name = config.model.name_or_path if choice == "base" else choice
    path = gguf_file(name, named_by="model.name_or_path" if choice == "base" else "--model")
    return None if path is None else _Found(path, ModelRef(str(name), str(path), "gguf"))


def _of_run(run: RunFolder, choice: str) -> _Found | None:
    record, prompt = GgufRecord.load(run.gguf_dir), run.gguf_dir / PROMPT_FOLDER
    if record is None or not all((prompt / name).is_file() for name in (PROMPT_FILE_NAME, TOKENIZER_FILE_NAME)):
        return None
    made_of = [(run.adapter_dir, (record.adapter,)), (run.merged_dir, record.merged)][choice == "merged"]
    folder, stamps = made_of
    if not all(stamp.fits(folder / stamp.name) for stamp in stamps):
        return None
    for kind in BEST_FIRST:
        stamp = record.files.get(kind)
        if stamp is not None and stamp.fits(run.gguf_dir / stamp.name):
            source = ModelRef(str(run.merged_dir) if choice == "merged" else record.base, str(run.gguf_dir), "gguf")
            return _Found(run.gguf_dir / stamp.name, source, prompt, record.agreement, record.costs.get(kind, {}))
    return None


def _loaded(config: Config, choice: str, found: _Found) -> LlamaModel:
    try:
        header = read_header(found.file)
    except (NotImplementedError, ValueError, OSError) as error:
        raise InputError(f"{found.file} is not a GGUF file that can be used: {first_line(error)}") from error
    with ThreadPoolExecutor(1, "weights") as thread:
        loading = thread.submit(LlamaWeights, found.file)  # while the tokenizer is read
        try:
            folder = found.tokenizer_folder or gguf_tokenizer_folder(found.file)
            folders = [folder, config.run.adapter_dir]
            contracts = [PromptContract.load(one) for one in folders if (one / PROMPT_FILE_NAME).is_file()]
            contract = contracts[0] if contracts else _contract_of(config.prompt, folder)
            tokenizer = FastTokenizer(folder / TOKENIZER_FILE_NAME)
            weights = loading.result()
            encoder = PromptEncoder(contract, tokenizer, weights.vocabulary_size)
        except BaseException:
            if loading.exception() is None:
                loading.result().close()
            raise
    num_values: Counter[int] = Counter()
    for tensor in header.tensors:
        if len(tensor.shape) > 1:
            num_values[tensor.kind] += prod(tensor.shape)
    # As file names have it: the type of most values of the matrices.
    quantization = GGML_TYPES[num_values.most_common(1)[0][0]].name if num_values else "unknown"
    return LlamaModel(choice, found.source, weights, encoder, found.file, quantization, found.agreement, found.cost)


def _contract_of(prompt: PromptConfig, folder: Path) -> PromptContract:
    """Return how a model is asked that has no contract beside it.

    To make a contract takes Transformers, which takes seconds to import: it is made once and kept.
    """
    key = sha256(repr((_CONTRACT_VERSION, prompt)).encode()).hexdigest()[:16]
    kept = cache_dir() / "contracts" / f"{folder.name}-{key}"
    with contextlib.suppress(InputError):
        return PromptContract.load(kept)
    from medqa_cli.model.load import load_tokenizer

    contract = make_contract(prompt, load_tokenizer(str(folder)))
    with contextlib.suppress(InputError), atomic_dir(kept) as temporary:
        contract.save(temporary)
    return contract
