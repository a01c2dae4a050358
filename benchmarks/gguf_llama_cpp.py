"""llama.cpp beside Transformers on one GGUF file: the same prompt ids, the same predictions, the same answer?

    pip install llama-cpp-python          # compiles C++; may be an environment of its own
    python benchmarks/gguf_export.py RUN_DIR/merged DATA_DIR --keep DIR --dump prompts.json
    python benchmarks/gguf_llama_cpp.py prompts.json DIR/model-q8_0.gguf

Needs neither medqa nor torch. Compares llama.cpp's ids of each rendered prompt with the prompt contract's; its best
token at each token of held-out answers with Transformers' on the same file dequantized; and its greedy answer: where
the two part, it prints how far apart the best two tokens of each were.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import Llama


def compare_prompts(model: Llama, prompts: list[dict[str, Any]]) -> int:
    """Return how many prompts llama.cpp gives other ids than the contract."""
    wrong = 0
    for one in prompts:
        got = model.tokenize(one["text"].encode(), add_bos=True, special=True)
        if got != one["ids"]:
            wrong += 1
            print(f"  {one['text']!r}\n  contract  {one['ids']}\n  llama.cpp {got}")
    print(f"prompt ids: {len(prompts) - wrong} of {len(prompts)} prompts alike")
    return wrong


def compare_predictions(model: Llama, examples: list[dict[str, Any]], best: list[list[int]]) -> None:
    """Print how often the best token is the same, given the same text."""
    agreeing = tokens = 0
    for one, expected in zip(examples, best, strict=True):
        model.reset()
        model.eval(one["ids"])
        found = model.scores[one["start"] - 1 : len(one["ids"]) - 1].argmax(-1)
        agreeing += int((found == np.asarray(expected)).sum())
        tokens += len(expected)
    print(f"top-1 agreement with Transformers on the same file: {agreeing / tokens:.4f} of {tokens:,} answer tokens")


def compare_answer(model: Llama, prompt_ids: list[int], file: dict[str, Any]) -> None:
    """Print where llama.cpp's greedy answer parts from that of Transformers."""
    model.reset()
    model.eval(prompt_ids)
    same = 0
    for step in file["steps"]:
        logits = model.scores[model.n_tokens - 1]
        chosen = int(logits.argmax())
        if chosen != step["id"]:
            lead = float(logits[chosen] - logits[step["id"]])
            print(f"  Transformers takes {step['id']}, its second best {step['lead']:.4f} behind;")
            print(f"  llama.cpp takes {chosen}, with Transformers' token {lead:.4f} behind")
            break
        same += 1
        model.eval([chosen])
    taken = list(model.input_ids[len(prompt_ids) : model.n_tokens])
    print(f"greedy answer: the first {same} of {len(file['steps'])} tokens alike")
    print(f"  Transformers: {file['answer']}\n  llama.cpp:    {model.detokenize(taken).decode(errors='replace')}")


def main() -> int:
    """Run the comparison; 1 where the ids of a prompt differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prompts", type=Path, help="what benchmarks/gguf_export.py --dump wrote")
    parser.add_argument("model", type=Path, help="the GGUF file, as model-TYPE.gguf")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    saved = json.loads(options.prompts.read_text(encoding="utf-8"))
    file = saved["files"][options.model.stem.rpartition("-")[2]]
    model = Llama(str(options.model), n_ctx=2048, n_threads=options.threads, logits_all=True, verbose=False)
    wrong = compare_prompts(model, saved["prompts"])
    compare_predictions(model, saved["examples"], file["best"])
    compare_answer(model, saved["prompts"][0]["ids"], file)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
