"""What GGUF files lose: each file against the merged model it came from, on held-out questions.

    python benchmarks/gguf_export.py RUN_DIR/merged DATA_DIR [--tokens 2000] [--dump prompts.json]

Exports f16, q8_0 and q4_0 to a temporary folder (--keep DIR: to that folder), loads each with Transformers' GGUF
loader, dequantized to float32, and compares the next-token predictions at every answer token of the split. Prints
sizes, time, peak memory of the export above the import of the libraries, largest logit difference, top-1 agreement,
mean KL and the answers' negative log-likelihood. --dump writes what benchmarks/gguf_llama_cpp.py compares.
"""

import argparse
import contextlib
import importlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from figures import add_json_option, write_figures

from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import MedqaError
from medqa_cli.gguf.export import export_gguf
from medqa_cli.model.devices import peak_memory_bytes
from medqa_cli.model.load import load_tokenizer, quiet_libraries
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.encoder import Example, PromptEncoder

TYPES = ("f16", "q8_0", "q4_0")
# (compared, with what)
PAIRS = (("f16", "merged"), ("q8_0", "f16"), ("q4_0", "f16"))
QUESTION = "How to treat glaucoma?"
GREEDY_TOKENS = 30


@dataclass
class Comparison:
    """Sums over answer tokens of two models' predictions of the same texts."""

    tokens: int = 0
    agreeing: int = 0
    largest: float = 0.0
    divergence: float = 0.0
    nll: float = 0.0

    def add(self, logits: torch.Tensor, reference: torch.Tensor, targets: torch.Tensor) -> None:
        """Add the answer tokens of one example. ``logits``, ``reference``: (T, V), float32; ``targets``: (T,)."""
        self.tokens += len(targets)
        self.agreeing += int((logits.argmax(-1) == reference.argmax(-1)).sum())
        self.largest = max(self.largest, float((logits - reference).abs().max()))
        ours, theirs = logits.log_softmax(-1), reference.log_softmax(-1)
        self.divergence += float((theirs.exp() * (theirs - ours)).sum(dtype=torch.float64))
        self.nll -= float(ours.gather(1, targets[:, None]).sum(dtype=torch.float64))

    def figures(self) -> dict[str, float]:
        """Return the means, and the largest difference of two logits."""
        return {
            "tokens": self.tokens,
            "top1_agreement": self.agreeing / self.tokens,
            "largest_logit_difference": self.largest,
            "mean_kl": self.divergence / self.tokens,
            "nll": self.nll / self.tokens,
        }


def export(merged_dir: Path, contract: PromptContract, out_dir: Path) -> list[dict[str, Any]]:
    """Export all types and print size and time of each, and the peak memory of it all."""
    importlib.import_module("transformers.models.llama.modeling_llama")
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    written = export_gguf(merged_dir, contract, TYPES, out_dir, "model", GenerateConfig())
    seconds = time.perf_counter() - started
    for one in written:
        print(f"{one['type']:5} {one['bytes'] / 2**20:9,.1f} MiB  {one['seconds']:6.1f} s  {one['tensors']}")
    peak = peak_memory_bytes(torch.device("cpu")) - before
    print(f"export: {seconds:.1f} s, peak memory {peak / 2**20:,.0f} MiB above the import of the libraries")
    return [{**one, "path": Path(one["path"]).name} for one in written]  # figures name no folder of this machine


def load(name: str, merged_dir: Path, gguf_dir: Path) -> Any:
    """Load the merged model or one of its GGUF files, in float32."""
    from transformers import AutoModelForCausalLM, GgufConfig

    if name == "merged":
        return AutoModelForCausalLM.from_pretrained(str(merged_dir), dtype=torch.float32).eval()
    # The loader's progress bars cannot be switched off.
    with contextlib.redirect_stderr(io.StringIO()):
        return AutoModelForCausalLM.from_pretrained(
            str(gguf_dir),
            gguf_file=f"model-{name}.gguf",
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        ).eval()


@dataclass(frozen=True)
class Held:
    """A held-out question; ``start``: where its answer begins."""

    question: str
    example: Example

    @property
    def start(self) -> int:
        """Number of prompt tokens."""
        return len(self.example.input_ids) - self.example.num_answer_tokens


def examples(encoder: PromptEncoder, data_dir: Path, split: str, tokens: int) -> Iterator[Held]:
    """Yield held-out examples until they hold so many answer tokens."""
    seen = 0
    for line in (data_dir / f"{split}.jsonl").read_text(encoding="utf-8").split("\n"):
        if not line or seen >= tokens:
            continue
        row = json.loads(line)
        (example,) = encoder.encode_examples([row["question"]], [row["answer"]], 1024)
        seen += example.num_answer_tokens
        yield Held(row["question"], example)


def compare(model: Any, reference: Any, held_out: list[Held]) -> Comparison:
    """Compare two models at each answer token."""
    found = Comparison()
    with torch.inference_mode():
        for one in held_out:
            ids = torch.tensor([one.example.input_ids])  # (1, T)
            predicted = (other(ids).logits[0, one.start - 1 : -1] for other in (model, reference))  # (answer tokens, V)
            found.add(*predicted, ids[0, one.start :])
    return found


def dump(path: Path, load_type: Callable[[str], Any], encoder: PromptEncoder, held_out: list[Held]) -> None:
    """Write rendered prompts with their ids, and each file's predictions, for the comparison with llama.cpp."""
    questions = [QUESTION, *(one.question for one in held_out)]
    saved: dict[str, Any] = {
        "question": QUESTION,
        "prompts": [{"text": encoder.contract.text.prompt(q), "ids": encoder.encode_prompt(q)} for q in questions],
        "examples": [{"ids": one.example.input_ids, "start": one.start} for one in held_out],
        "files": {},
    }
    for name in TYPES:
        model = load_type(name)
        steps = greedy(model, encoder)
        with torch.inference_mode():
            logits = (model(torch.tensor([one.example.input_ids])).logits[0, one.start - 1 : -1] for one in held_out)
            best = [one.argmax(-1).tolist() for one in logits]
        saved["files"][name] = {"steps": steps, "answer": encoder.decode_answer([s["id"] for s in steps]), "best": best}
    path.write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")
    print(f"{path}: {len(questions)} prompts, predictions of {', '.join(TYPES)}")


def greedy(model: Any, encoder: PromptEncoder) -> list[dict[str, Any]]:
    """Answer a question; each step has the best token and how far its logit lies before the second best."""
    ids, steps = encoder.encode_prompt(QUESTION), []
    with torch.inference_mode():
        for _ in range(GREEDY_TOKENS):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            steps.append({"id": int(best.indices[0]), "lead": float(best.values[0] - best.values[1])})
            if steps[-1]["id"] in encoder.contract.stop_token_ids:
                break
            ids = [*ids, steps[-1]["id"]]
    return steps


def run(options: argparse.Namespace, gguf_dir: Path) -> dict[str, Any]:
    """Export, compare, print; return the figures."""
    contract = PromptContract.load(options.merged_dir)
    figures: dict[str, Any] = {"files": export(options.merged_dir, contract, gguf_dir)}
    encoder = PromptEncoder(contract, load_tokenizer(str(options.merged_dir)))
    held_out = list(examples(encoder, options.data_dir, options.split, options.tokens))
    for name, reference in PAIRS:
        models = [load(one, options.merged_dir, gguf_dir) for one in (name, reference)]
        found = compare(*models, held_out)
        figures[f"{name} against {reference}"] = found.figures()
        print(
            f"{name} against {reference}: {found.tokens:,} answer tokens of {len(held_out)} questions, top-1 agreement "
            f"{found.agreeing / found.tokens:.4f}, largest logit difference {found.largest:.3g}, "
            f"mean KL {found.divergence / found.tokens:.3g} nats, nll {found.nll / found.tokens:.4f}"
        )
    if options.dump:
        dump(options.dump, lambda name: load(name, options.merged_dir, gguf_dir), encoder, held_out)
    return figures


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("merged_dir", type=Path, help="a folder that medqa merge wrote")
    parser.add_argument("data_dir", type=Path, help="a folder that medqa convert wrote")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tokens", type=int, default=2000, help="answer tokens to compare at least")
    parser.add_argument("--keep", type=Path, help="folder for the GGUF files; default: a temporary one")
    parser.add_argument("--dump", type=Path, help="file for benchmarks/gguf_llama_cpp.py")
    add_json_option(parser)
    options = parser.parse_args()
    quiet_libraries()
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_figures(options.json, run(options, options.keep or Path(folder)))
    except MedqaError as error:
        print(f"{error.message}; {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
