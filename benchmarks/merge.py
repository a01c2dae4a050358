"""Peak memory and time of ``medqa merge`` on a Llama of 1.1 billion parameters, beside copying it and beside PEFT.

A model of TinyLlama's shape with random bfloat16 weights and an adapter of rank 16 on all linear layers are made in a
temporary folder (7 GB of disk). Each way runs in a process of its own; memory is the peak above what the imported
libraries take, from the kernel's high-water mark. All files are in the page cache; what was written is flushed to the
disk between the ways.

    python benchmarks/merge.py [--layers 22] [--repeat 3]
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

SHAPE = {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632}
HEADS = {"num_attention_heads": 32, "num_key_value_heads": 4}
NUM_SHARDS = 4
RANK = 16


def main() -> None:
    """Make the model, run each way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=22, help="layers of the model; 22: 1.1 billion parameters")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the fastest counts")
    parser.add_argument("--dir", type=Path, help="where the temporary folder goes; default: the system's")
    add_json_option(parser)
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        run_way(arguments.way[0], Path(arguments.way[1]))
        return
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, "--layers", str(arguments.layers), "--way", "make", name], check=True)
        shards = sorted((folder / "base").glob("*.safetensors"))
        size = sum(path.stat().st_size for path in shards)
        print(f"base: {size / 1e9:.2f} GB in {len(shards)} shards, adapter: rank {RANK} on all linear layers")
        print(f"{'way':<34}{'seconds':>9}{'x copy':>8}{'CPU s':>8}{'peak MB above imports':>24}")
        floor = 0.0
        figures: dict[str, Any] = {"base_bytes": size}
        for way in ("cp of the shards + reading them", "medqa original", "medqa nf4", "peft"):
            runs = [measure(way, folder) if floor else copy_and_read(folder, shards) for _ in range(arguments.repeat)]
            seconds, cpu = (min(run[key] for run in runs) for key in ("seconds", "cpu_seconds"))
            floor = floor or seconds
            peak = f"{max(run['peak_bytes'] for run in runs) / 1e6:.0f}" if "peak_bytes" in runs[0] else ""
            print(f"{way:<34}{seconds:>9.2f}{seconds / floor:>8.2f}{cpu:>8.2f}{peak:>24}", flush=True)
            figures[way] = {"seconds": seconds, "cpu_seconds": cpu}
            if peak:
                figures[way]["peak_bytes"] = max(run["peak_bytes"] for run in runs)
    write_figures(arguments.json, figures)


def copy_and_read(folder: Path, shards: list[Path]) -> dict[str, float]:
    """Measure ``cp`` of the shards and one reading of them."""
    os.sync()
    (folder / "copy").mkdir()
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["cp", *map(str, shards), str(folder / "copy")], check=True)
    for path in shards:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none"], check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(folder / "copy")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu}


def measure(way: str, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own."""
    os.sync()
    done = subprocess.run([sys.executable, __file__, "--way", way, str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{way}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_way(way: str, folder: Path) -> None:
    """The work of the process that ``measure`` starts."""
    if way == "make":
        make(folder)
        return
    out_dir = folder / "out"
    shutil.rmtree(out_dir, ignore_errors=True)
    work = prepare_peft(folder, out_dir) if way == "peft" else prepare_medqa(folder, out_dir, way.split()[1])
    # Writing 5 sets the high-water mark back to what is resident now (man 5 proc).
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    started, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak_bytes = status_bytes("VmHWM") - before
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes}))
    shutil.rmtree(out_dir)


def prepare_medqa(folder: Path, out_dir: Path, base_weights: str) -> Callable[[], object]:
    """Import everything that the merge imports; return the merge, which like the command keeps malloc as it is."""
    import bitsandbytes  # noqa: F401 -- imported for its memory
    import peft.utils.other  # noqa: F401
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from medqa_cli.config.schema import Config, DataConfig, ModelConfig, PromptConfig
    from medqa_cli.files import RunFolder
    from medqa_cli.merging.run import merge

    get_checkpoint_conversion_mapping("llama")  # builds its table at the first call
    config = Config(
        data=DataConfig(dir=str(folder / "no-data")),  # nothing to compare on: this measures the merge itself
        model=ModelConfig(quantization="nf4", double_quantization=True),
        prompt=PromptConfig(template="plain"),
    )
    return lambda: merge(config, RunFolder(folder / "run"), out_dir, base_weights)


def prepare_peft(folder: Path, out_dir: Path) -> Callable[[], object]:
    """Import what PEFT's merge imports; return that merge, in the base's type as its documentation does it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    def work() -> None:
        base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
        PeftModel.from_pretrained(base, folder / "run/adapter").merge_and_unload().save_pretrained(out_dir)

    return work


def status_bytes(key: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def make(folder: Path) -> None:
    """Write the base, a tensor at a time, and the adapter."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, LlamaConfig

    from medqa_cli.merging.model_folder import make_shards, write_shards
    from medqa_cli.model.weights import StoredTensor, as_bytes

    layers = int(sys.argv[sys.argv.index("--layers") + 1])
    config = LlamaConfig(num_hidden_layers=layers, tie_word_embeddings=False, dtype="bfloat16", **SHAPE, **HEADS)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder / "base")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tensors = [StoredTensor(name, folder, "BF16", shape, -1) for name, shape in shapes.items()]
    size = -(-len(tensors) // NUM_SHARDS)
    torch.manual_seed(0)
    write_shards(
        folder / "base",
        make_shards([tensors[start : start + size] for start in range(0, len(tensors), size)]),
        lambda name: iter([as_bytes(torch.randn(shapes[name], dtype=torch.bfloat16) * 0.02)]),
    )
    adapter_dir = folder / "run/adapter"
    adapter_dir.mkdir(parents=True)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapter = {}
    for name in (name for name in linear if name != "lm_head"):
        out_features, in_features = shapes[f"{name}.weight"]
        adapter[f"base_model.model.{name}.lora_A.weight"] = torch.randn(RANK, in_features) * 0.02
        adapter[f"base_model.model.{name}.lora_B.weight"] = torch.randn(out_features, RANK) * 0.02
    save_file(adapter, adapter_dir / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": "all-linear", "lora_dropout": 0.0}
    settings |= {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(folder / "base"), "bias": "none"}
    (adapter_dir / "adapter_config.json").write_text(json.dumps(settings))
    make_tokenizer().save_pretrained(adapter_dir)


def make_tokenizer() -> Any:
    """A byte-level tokenizer of 257 tokens: the merge only copies it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


if __name__ == "__main__":
    main()
