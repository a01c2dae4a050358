"""Export a merged model as GGUF files and an Ollama ``Modelfile``; each appears whole or not at all.

The ``Modelfile`` holds the prompt contract as a Go template, the system line, stops and decoding.
"""

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf

from medqa_cli import console
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import RunFolder, atomic_file, atomic_path, lack_of_room, read_json
from medqa_cli.gguf import tensors
from medqa_cli.gguf.architecture import KnownModel, read_known_model
from medqa_cli.gguf.tensors import PlannedTensor
from medqa_cli.gguf.tokenizer import GgufTokenizer, read_tokenizer
from medqa_cli.model.gguf_model import BEST_FIRST, PROMPT_FOLDER, RECORD_NAME, GgufRecord, Stamp
from medqa_cli.model.load import base_of_adapter, load_tokenizer
from medqa_cli.model.weights import WeightFiles, adapter_file, weight_paths
from medqa_cli.prompt.chat_template import find_chat_template
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract
from medqa_cli.prompt.fast_tokenizer import TOKENIZER_FILE_NAME

MODELFILE_NAME = "Modelfile"
# A larger window only costs memory: the tuned answers are short.
_LARGEST_CONTEXT = 4096
_ROOM_FOR_A_QUESTION = 1024


@dataclass(frozen=True)
class _Model:
    """What all files of one model share."""

    name: str
    known: KnownModel
    tokenizer: GgufTokenizer
    chat_template: str
    weights: WeightFiles


def parse_types(values: Sequence[str] | None, more: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the requested file types, each once.

    Args:
        values: values of ``--gguf``, each one type or several with commas.
        more: words after the options: ``--gguf f16 q8_0`` leaves q8_0 there.

    Raises:
        InputError: one is not known, there are words without ``--gguf``, or it is empty.
    """
    if more and not values:
        raise InputError(f"merge takes no argument; got: {' '.join(more)}", "GGUF files: medqa merge --gguf q8_0")
    words = ",".join([*(values or ()), *(more or ())]).split(",")
    names = dict.fromkeys(word.strip().lower() for word in words if word.strip())
    if values and not names:
        raise InputError(
            "--gguf names no file type", f"choose among {', '.join(tensors.FILE_TYPES)}, e.g. --gguf f16,q8_0"
        )
    for name in names:
        if name not in tensors.FILE_TYPES:
            raise InputError(
                f"--gguf {name}: no such file type",
                f"choose among {', '.join(tensors.FILE_TYPES)}, e.g. --gguf f16,q8_0",
            )
    return tuple(names)


def require_exportable(adapter_dir: Path) -> None:
    """Refuse a model that cannot be exported before it is merged, which may take long.

    Raises:
        InputError: its base or its tokenizer is of a kind that medqa does not write as GGUF.
    """
    base = base_of_adapter(adapter_dir)
    known = read_known_model(base.location, base.revision)
    if (adapter_dir / PROMPT_FILE_NAME).is_file():  # an adapter that medqa did not train may have none
        read_tokenizer(load_tokenizer(str(adapter_dir)), known.config.vocab_size, PromptContract.load(adapter_dir))


def export_gguf(
    merged_dir: Path, contract: PromptContract, types: Sequence[str], out_dir: Path, name: str, generate: GenerateConfig
) -> list[dict[str, Any]]:
    """Write ``out_dir/NAME-<type>.gguf`` for each type and ``out_dir/Modelfile``.

    Args:
        merged_dir: a Transformers folder with weights and tokenizer.
        contract: the prompt that the model was tuned with.
        types: of ``f16``, ``q8_0``, ``q4_0``.
        out_dir: made where it is missing; files of the same names are replaced, others left.
        name: of the model; the file names begin with it.
        generate: decoding, for the Modelfile.

    Returns:
        One object per file: ``type, path, bytes, tensors`` (number by type), ``stored_as_f16`` (matrices whose rows do
        not divide into blocks), ``seconds``.

    Raises:
        InputError: the model is of another kind or damaged, or the folder cannot be written.
        MedqaError: its weights cannot be written in that type, or do not fit the disk.
    """
    known = read_known_model(str(merged_dir))
    tokenizer = load_tokenizer(str(merged_dir))
    translated = read_tokenizer(tokenizer, known.config.vocab_size, contract)
    model = _Model(name, known, translated, find_chat_template(tokenizer, contract), tensors.open_weights(merged_dir))
    plans = {kind: tensors.plan_tensors(known, model.weights.tensors, kind) for kind in types}
    for warning in translated.warnings:
        console.warn(f"GGUF: {warning}")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out_dir}: {error.strerror}") from error
    # A little too much: padding for each tensor, 32 bytes for each token and merge.
    text_bytes = sum(len(text.encode()) + 32 for text in [*translated.tokens, *translated.merges]) + 2**16
    needed = sum(tensor.num_bytes + 256 for plan in plans.values() for tensor in plan) + len(plans) * text_bytes
    if problem := lack_of_room(out_dir, needed, "the GGUF files"):
        raise MedqaError(problem, "make room, or ask for fewer types: --gguf q8_0")
    written = [_write_file(out_dir / f"{name}-{kind}.gguf", model, kind, plan) for kind, plan in plans.items()]
    model.weights.close()
    best = next(kind for kind in BEST_FIRST if kind in plans)
    stops = [translated.tokens[token_id] for token_id in contract.stop_token_ids]
    with atomic_file(out_dir / MODELFILE_NAME) as file:
        file.write(modelfile(contract, f"{name}-{best}.gguf", stops, generate, known.context_length))
    names = {Path(file["path"]).name for file in written}
    if older := sorted(path.name for path in out_dir.glob("*.gguf") if path.name not in names):
        console.warn(f"{out_dir} also holds files of earlier exports: {', '.join(older)}")
    return written


def modelfile(
    contract: PromptContract, model_file: str, stops: Sequence[str], generate: GenerateConfig, context: int
) -> str:
    """Return the text of a ``Modelfile``.

    Ollama adds the BOS itself if the GGUF file asks for it.

    Args:
        contract: what the model was tuned with.
        model_file: name of the GGUF file in the same folder.
        stops: texts of the tokens that end an answer.
        generate: decoding, as ``medqa ask`` does it.
        context: the model's largest context, in tokens.
    """
    text = contract.text
    parts, system = text.split_at_system(), text.system
    # A Modelfile has no escape for quotes in SYSTEM: such a line stays in the template.
    if parts is None or system is None or '"' in system:
        before, system = _plain(text.before_question), None
    else:
        before = _plain(parts[0]) + "{{ .System }}" + _plain(parts[1])
    prompt = before + "{{ .Prompt }}" + _plain(text.after_question)
    template = prompt + "{{ .Response }}" + _plain(contract.end_token)
    lines = [f"FROM ./{model_file}", f'TEMPLATE """{template}"""']
    if system is not None:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop """{stop}"""' if '"' in stop else f'PARAMETER stop "{stop}"' for stop in stops]
    lines += [
        f"PARAMETER temperature {generate.temperature}",
        f"PARAMETER num_predict {generate.max_new_tokens}",
        f"PARAMETER num_ctx {min(context, max(_LARGEST_CONTEXT, generate.max_new_tokens + _ROOM_FOR_A_QUESTION))}",
        # Ollama's own defaults (top_k 40, top_p 0.9, repeat_penalty 1.1) would decode otherwise than medqa ask.
        f"PARAMETER top_p {generate.top_p}",
        "PARAMETER top_k 0",
        f"PARAMETER repeat_penalty {generate.repetition_penalty}",
    ]
    if generate.repetition_penalty != 1:
        lines.append("PARAMETER repeat_last_n -1")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Escape what Go's template engine and the Modelfile's triple quotes would take for their own."""
    return re.sub(r'[{"]+', lambda match: "{{ " + json.dumps(match[0]) + " }}", text)


def export_run(
    run: RunFolder, merged_dir: Path, types: Sequence[str], generate: GenerateConfig
) -> list[dict[str, Any]]:
    """Export the merged model of a run into its own folder, under the run's name (see ``export_gguf``).

    Beside the files comes what ``medqa ask`` needs to answer from them: prompt, tokenizer, and of what they were made.
    """
    contract, record = PromptContract.load(merged_dir), run.gguf_dir / RECORD_NAME
    record.unlink(missing_ok=True)  # what follows may be interrupted
    written = export_gguf(merged_dir, contract, types, run.gguf_dir, _name_of(run), generate)
    console.doing("hashing the files ...")
    fast = getattr(load_tokenizer(str(merged_dir)), "backend_tokenizer", None)
    if fast is None:  # a tokenizer in Python: Transformers has to be there
        return written
    folder = run.gguf_dir / PROMPT_FOLDER
    with atomic_path(folder / TOKENIZER_FILE_NAME) as temporary:
        fast.save(str(temporary))
    contract.save(folder)
    try:  # how often it and base + adapter take the same token
        agreement = read_json(merged_dir / "merge.json")["verification"]["top1_agreement"]
    except (InputError, LookupError, TypeError):
        agreement = None
    GgufRecord(
        files={one["type"]: Stamp.of(Path(one["path"])) for one in written},
        base=base_of_adapter(run.adapter_dir).name,
        adapter=Stamp.of(adapter_file(run.adapter_dir)),
        merged=tuple(Stamp.of(path, hashed=False) for path in weight_paths(merged_dir)),
        agreement=agreement if isinstance(agreement, float | int) else None,
    ).save(run.gguf_dir)
    return written


def show(written: Sequence[dict[str, Any]], run: RunFolder) -> None:
    """Print what was written and how to use it."""
    rows = [
        [
            Path(file["path"]).name,
            f"{file['bytes'] / 2**20:,.0f} MiB",
            f"{file['seconds']:.0f} s",
            ", ".join(f"{count} {kind}" for kind, count in file["tensors"].items()),
        ]
        for file in written
    ]
    console.table("GGUF", rows, header=["file", "size", "time", "tensors"])
    console.line(f"Ollama: ollama create {_name_of(run)} -f {run.gguf_dir / MODELFILE_NAME}")


def _name_of(run: RunFolder) -> str:
    return run.path.resolve().name


def _write_file(path: Path, model: _Model, kind: str, plan: Sequence[PlannedTensor]) -> dict[str, Any]:
    """Write one GGUF file under a temporary name, rename it when it is complete, return its summary."""
    started = time.perf_counter()
    try:
        with atomic_path(path) as temporary:
            writer = gguf.GGUFWriter(temporary, model.known.architecture)
            with contextlib.closing(writer):
                _write_content(writer, path.name, model, kind, plan)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    fell_back = sum(tensor.fell_back for tensor in plan)
    if fell_back:
        console.note(f"{path.name}: {fell_back} matrices are stored as f16: their row length is not a multiple of 32")
    return {
        "type": kind,
        "path": str(path),
        "bytes": path.stat().st_size,
        "tensors": dict(Counter(tensor.type.name.lower() for tensor in plan)),
        "stored_as_f16": fell_back,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _write_content(
    writer: gguf.GGUFWriter, file_name: str, model: _Model, kind: str, plan: Sequence[PlannedTensor]
) -> None:
    """Write the metadata and the list of tensors, then one tensor after the other: none waits in memory."""
    parameters = sum(prod(tensor.stored.shape) for tensor in plan)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(model.name)
    writer.add_size_label(gguf.size_label(parameters, parameters, 0, 0))
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    model.known.add_hyperparameters(writer)
    model.tokenizer.add_to(writer, model.chat_template)
    for tensor in plan:
        writer.add_tensor_info(tensor.name, tensor.byte_shape, tensor.dtype, tensor.num_bytes, raw_dtype=tensor.type)
    factors = model.known.rope_factors()
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with console.progress(f"writing {file_name}", len(plan)) as progress:
        for done, tensor in enumerate(plan, start=1):
            writer.write_tensor_data(tensors.convert(model.weights, tensor))
            progress.update(done)
    if factors is not None:
        writer.write_tensor_data(factors)
