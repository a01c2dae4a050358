"""How fast answers through llama.cpp are, and whether their tokens are those of Transformers.

    python benchmarks/ask_llamacpp.py [--model FILE.gguf] [--tokens 64] [--rounds 5] [--short] [--parity]

One run prints tokens/s of medqa through llama.cpp, of llama.cpp itself on the same file (the server of the package
``xllamacpp``, asked with the same token ids), of medqa through Transformers and of plain ``generate``: alone and in
batches of 8 and 64, greedy, no end token, prompts included; per second and per second of processor, which is what
counts on a machine that has other work. Then the seconds from a cold start to the first text, each in a process of its
own. ``--short``: a third of it, to see that it runs.

``--parity`` prints instead how many of 50 greedy answers from f16 weights have the tokens that Transformers gives from
the same weights in float32, and where two part, how far apart Transformers has the two tokens. It takes a quarter of an
hour.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ask import FORMS, MODEL, PLAIN, TOPICS, first_text, plain_batch, without_end
from figures import add_json_option, write_figures

QUESTIONS = [form.format(topic) for form in FORMS for topic in TOPICS]
BATCHES = (8, 64)
WAYS = {
    "medqa, llama.cpp": "medqa llamacpp",
    "llama.cpp itself": "llama.cpp",
    "medqa, Transformers": "medqa transformers",
    "Transformers": "transformers",
}
LLAMA = """
import sys
import xllamacpp
path, threads, question = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.verbosity = path, 512, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
found = xllamacpp.Server(params).handle_completions({"prompt": question, "n_predict": 1, "temperature": 0})
print(found["choices"][0]["text"], flush=True)
"""


class Server:
    """llama.cpp's own server in this process, asked with token ids."""

    def __init__(self, path: Path, threads: int, at_once: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = at_once, at_once * 512
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.verbosity = 0
        self._server, self._pool = xllamacpp.Server(params), ThreadPoolExecutor(at_once)

    def make(self, prompts: list[list[int]], tokens: int) -> int:
        """Continue the prompts together; return the number of tokens made."""
        return sum(self._pool.map(lambda prompt: self._one(prompt, tokens), prompts))

    def _one(self, prompt: list[int], tokens: int) -> int:
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        return int(self._server.handle_completions(body)["usage"]["completion_tokens"])


class Side:
    """One way to answer, in a process of its own: two pools of OpenMP threads in one process slow each other down."""

    def __init__(self, way: str, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--model", options.model, "--tokens", str(options.tokens), "--way", way]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, size: int) -> tuple[float, float]:
        """Answer so many questions at once; return tokens per second and per second of processor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(size, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"a side ended with code {self._process.wait()}")
        wall, processor = json.loads(answer)
        return wall, processor

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def run_side(options: argparse.Namespace) -> None:
    """Answer as many questions as each line of standard input says, and print how fast that was."""
    answer = {"medqa": medqa_side, "llama.cpp": llama_side, "transformers": transformers_side}
    kind, _, engine = options.way.partition(" ")
    make = answer[kind](options, engine)
    for line in sys.stdin:
        asked = [QUESTIONS[number % len(QUESTIONS)] for number in range(int(line))]
        started, processor = time.perf_counter(), time.process_time()
        made = make(asked)
        rates = [made / (time.perf_counter() - started), made / (time.process_time() - processor)]
        print(json.dumps(rates), flush=True)


def load(options: argparse.Namespace, engine: str) -> Any:
    """Load the model into an engine, with no token that ends an answer."""
    from medqa_cli.answering.engines import load_answerer
    from medqa_cli.config.schema import Config, GenerateConfig, ModelConfig, PromptConfig

    config = Config(
        run_dir="nowhere",
        prompt=PromptConfig(template="chat"),
        model=ModelConfig(name_or_path=options.model, quantization="none"),
        generate=GenerateConfig(engine=engine),  # type: ignore[arg-type]
    )
    return without_end(load_answerer(config, "base", batches=True))


def medqa_side(options: argparse.Namespace, engine: str) -> Callable[[list[str]], int]:
    """Return what answers with medqa."""
    from medqa_cli.answering.generate import answer_questions
    from medqa_cli.config.schema import GenerateConfig

    answerer, config = load(options, engine), GenerateConfig(max_new_tokens=options.tokens, loop_retries=0)
    return lambda asked: sum(answer.answer_tokens for answer in answer_questions(answerer, asked, config))


def llama_side(options: argparse.Namespace, engine: str) -> Callable[[list[str]], int]:
    """Return what answers with llama.cpp's own server: one for each number of questions."""
    from medqa_cli.model.llamacpp import pick_threads
    from medqa_cli.model.resolve import gguf_file

    path, encoder = gguf_file(options.model), load(options, "llamacpp").encoder
    assert path is not None
    server = functools.lru_cache(maxsize=1)(lambda size: Server(path, pick_threads(), size))
    return lambda asked: server(len(asked)).make(encoder.encode_prompts(asked), options.tokens)


def transformers_side(options: argparse.Namespace, engine: str) -> Callable[[list[str]], int]:
    """Return what answers with plain ``generate``."""
    answerer = load(options, "transformers")
    return lambda asked: plain_batch(answerer.model, answerer, asked, options.tokens)


def speed(options: argparse.Namespace, sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Print and return the medians of tokens/s of the four ways, by the number of questions at once."""
    sides = {name: Side(way, options) for name, way in WAYS.items()}
    found: dict[str, Any] = {}
    for size in sizes:
        print(f"{size} at once")
        for side in sides.values():  # what is made at the first time: contexts, compiled kernels
            side.run(size)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                rates[name].append(side.run(size))
        found[str(size)] = of_size = {}
        for name, pairs in rates.items():
            wall, processor = (statistics.median(column) for column in zip(*pairs, strict=True))
            of_size[name] = {"per_second": wall, "per_processor_second": processor}
            print(f"{name}: {wall:.1f} tokens/s, {processor:.1f} per second of processor", flush=True)
        own, other = of_size["medqa, llama.cpp"], of_size["llama.cpp itself"]
        of_size["ratio"] = {key: own[key] / other[key] for key in own}
        print("medqa over llama.cpp itself: {per_second:.2f}, {per_processor_second:.2f}".format(**of_size["ratio"]))
    for side in sides.values():
        side.end()
    return found


def cold_start(name: str, path: Path, location: str, rounds: int) -> dict[str, float]:
    """Print and return the seconds from the start of a process to its first text, started in turn."""
    from medqa_cli.model.devices import pick_compute_dtype, pick_device
    from medqa_cli.model.llamacpp import pick_threads

    question = "How to treat glaucoma?"

    def ours(engine: str) -> list[str]:
        settings = ("prompt.template=chat", "generate.max_new_tokens=20", f"generate.engine={engine}")
        settings += ("model.quantization=none", f"model.name_or_path={name}")
        command = [sys.executable, "-m", "medqa_cli", "ask", "--model", "base", question]
        return [*command, *(word for setting in settings for word in ("--set", setting))]

    dtype = str(pick_compute_dtype("auto", pick_device())).removeprefix("torch.")
    ways = {
        "medqa, llama.cpp": ours("llamacpp"),
        "llama.cpp itself": [sys.executable, "-c", LLAMA, str(path), str(pick_threads()), question],
        "medqa, Transformers": ours("transformers"),
        "Transformers": [sys.executable, "-c", PLAIN, location, dtype, question],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        # In the first round files come from the disk, and medqa makes the contract of the file's prompt.
        for number in range(rounds + 1):
            for way, command in ways.items():
                took = first_text(command, Path(folder))
                seconds[way] += [took] if number else []
    found = {way: statistics.median(of_way) for way, of_way in seconds.items()}
    print("first text from a cold start")
    for way, median in found.items():
        print(f"{way}: {median:.2f} s", flush=True)
    return found


def parity(location: str, tokens: int) -> dict[str, Any]:
    """Print and return how many of 50 greedy answers from f16 weights are those of Transformers, and the near ties."""
    import torch

    from medqa_cli.answering import engines
    from medqa_cli.answering.generate import prompt_questions
    from medqa_cli.config.schema import Config, GenerateConfig, ModelConfig, PromptConfig
    from medqa_cli.files import RunFolder
    from medqa_cli.gguf.export import export_gguf
    from medqa_cli.model.load import load_model

    config = GenerateConfig(max_new_tokens=tokens, engine="llamacpp")
    model, prompt = ModelConfig(quantization="none", compute_dtype="float32"), PromptConfig(template="chat")
    slow = load_model(location, RunFolder(Path("nowhere")), model, prompt)
    with tempfile.TemporaryDirectory() as folder:
        (written,) = export_gguf(Path(location), slow.encoder.contract, ["f16"], Path(folder), "same", config)
        fast = engines.load_answerer(Config(run_dir="nowhere", prompt=prompt, generate=config), written["path"])

        def answers(answerer: Any, question: str) -> list[int]:
            (asked,) = prompt_questions(answerer, [question], config)
            engines.decode(answerer, [asked.ids], [asked.state], config, lambda row: None)
            return list(asked.state.ids)

        leads = []
        for number, question in enumerate(QUESTIONS, start=1):
            print(f"{number} of {len(QUESTIONS)}", file=sys.stderr, flush=True)
            own, other = answers(fast, question), answers(slow, question)
            if own == other:
                continue
            at = next((n for n, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)
            if at is None:
                leads.append(float("inf"))
                continue
            ids = [*slow.encoder.encode_prompt(question), *other[:at]]
            with torch.inference_mode():
                logits = slow.model(torch.tensor([ids])).logits[0, -1]
            leads.append(float(logits[other[at]] - logits[own[at]]))
            print(f"  {question} parts at token {at}: Transformers has the two {leads[-1]:.4f} apart", flush=True)
    same = len(QUESTIONS) - len(leads)
    print(f"greedy answers from f16 weights: {same} of {len(QUESTIONS)} with the same tokens")
    return {"same": same, "questions": len(QUESTIONS), "leads": leads}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="a GGUF file")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--parity", action="store_true")
    add_json_option(parser)
    parser.add_argument("--way", choices=list(WAYS.values()), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run_side(options)
        return
    from medqa_cli.model.resolve import find_base, gguf_file

    path, location = gguf_file(options.model), find_base(options.model).location
    if path is None:
        sys.exit(f"{options.model} is not a GGUF file")
    if options.parity:
        figures: dict[str, Any] = {"parity": parity(location, options.tokens)}
    else:
        rounds, sizes = (1, (1, BATCHES[0])) if options.short else (options.rounds, (1, *BATCHES))
        figures = {"tokens_per_second": speed(options, sizes, rounds)}
        figures["cold_start"] = cold_start(options.model, path, location, rounds)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
