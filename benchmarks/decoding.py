"""Ways to decode: which of them let a tuned model's answers end, and what each costs in words, content and time.

    python benchmarks/decoding.py CONFIG [--questions 200] [--ways greedy,retry-4,...] [--out FOLDER]

Answers held-out questions of a trained run in each way, and prints a table: shares that loop and that end by
themselves, ROUGE-L, words of the topic, chrF, nats per token of the text under the base model (how odd the text is to
it), words to those of the reference, tokens per second. Differences are paired with greedy decoding, with 95 %
intervals over topics. Answers are kept in FOLDER, so that a second start goes on. A way that is not ``cut`` or
``retry`` shows the whole text, as ``medqa eval`` measures it; those two show it as ``medqa ask`` prints it.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from figures import add_json_option, write_figures

from medqa_cli.answering.decode import decode_batch
from medqa_cli.answering.stopping import StoppingState
from medqa_cli.config.load import load
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import evenly_spaced, read_split
from medqa_cli.evaluation.bootstrap import ClusterBootstrap, Resampled
from medqa_cli.evaluation.generation import WholeAnswer
from medqa_cli.evaluation.metrics import metric
from medqa_cli.evaluation.samples import GeneratedAnswer, Questions, make_questions, samples_of
from medqa_cli.files import RunFolder
from medqa_cli.model.kernels.packing import AnswerScore, score_answers
from medqa_cli.model.load import LoadedModel, load_model

# By name: keys of the config's generate section; for "generate" keys of Transformers' generate().
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "cut": {"loop_retries": 0},
    "retry-4": {"loop_retries": 4, "end_bonus": 0},
    "retry-16": {"loop_retries": 16, "end_bonus": 0},
    "retry-4-end-2": {"loop_retries": 4, "end_bonus": 2},
    "retry-8-end-1": {"loop_retries": 8, "end_bonus": 1},
    "retry-8-end-2": {"loop_retries": 8, "end_bonus": 2},
    "retry-8-end-4": {"loop_retries": 8, "end_bonus": 4},
    "retry-8-end-8": {"loop_retries": 8, "end_bonus": 8},
    "penalty-1.05": {"repetition_penalty": 1.05},
    "penalty-1.1": {"repetition_penalty": 1.1},
    "penalty-1.2": {"repetition_penalty": 1.2},
    "ngram-6": {"no_repeat_ngram_size": 6},
    "ngram-8": {"no_repeat_ngram_size": 8},
    "ngram-12": {"no_repeat_ngram_size": 12},
    "sampled-0.7": {"temperature": 0.7, "top_p": 0.9},
    "beams-4": {"generate": {"num_beams": 4}},
    "longer-ends": {"generate": {"exponential_decay_length_penalty": (128, 1.01)}},
}
METRICS = ("loop_rate", "finished_rate", "rougeL", "topic_coverage", "chrf", "nll", "length_ratio")
BATCH = 50


def main() -> None:
    """Answer in each way, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"comma-separated: {', '.join(WAYS)}")
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("decoding"), help="folder that keeps the answers")
    add_json_option(parser)
    options = parser.parse_args()
    config = load(options.config).config
    run = RunFolder(Path(config.run_dir))
    tuned = load_model("adapter", run, config.model, config.prompt, batches=True)
    split = read_split(Path(config.data.dir), "test")
    questions = make_questions(split, evenly_spaced(split, options.questions), None, config.model.max_length)
    options.out.mkdir(parents=True, exist_ok=True)
    answers: dict[str, list[GeneratedAnswer]] = {}
    speeds: dict[str, float] = {}
    for way in options.ways.split(","):
        answers[way], speeds[way] = answered(tuned, questions.texts, way, options, config)
        print(f"{way}: {speeds[way]:.0f} tokens/s", flush=True)
    encoder = tuned.encoder
    tuned.model = None
    figures = measure(config, run, encoder, questions, answers)
    table = {way: {name: as_json(figure) for name, figure in of_way.items()} for way, of_way in figures.items()}
    first = next(iter(figures))
    differences = {
        way: {name: as_json(of_way[name] - figures[first][name]) for name in METRICS}
        for way, of_way in figures.items()
        if way != first
    }
    show(table, differences, speeds, first)
    write_figures(options.json, {"figures": table, f"minus_{first}": differences, "tokens_per_second": speeds})


def answered(
    tuned: LoadedModel, texts: list[str], way: str, options: argparse.Namespace, config: Config
) -> tuple[list[GeneratedAnswer], float]:
    """Answer the questions in one way, or read the answers of an earlier start; and tokens per second."""
    path = options.out / f"{way}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["questions"] == texts and kept["max_new_tokens"] == options.max_new_tokens:
            return [GeneratedAnswer(*answer) for answer in kept["answers"]], kept["tokens_per_second"]
    settings = dict(WAYS[way])
    retries, generate = settings.pop("loop_retries", None), settings.pop("generate", None)
    end_bonus = settings.pop("end_bonus", 0)
    torch.manual_seed(0)
    started = time.perf_counter()
    prompts = tuned.encoder.encode_prompts(texts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: list[Any] = [None] * len(prompts)
    stop_ids = frozenset(tuned.encoder.contract.stop_token_ids)
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        batch = [prompts[index] for index in indices]
        if generate is not None:
            results = by_transformers(tuned, batch, stop_ids, options.max_new_tokens, generate)
        else:
            states: list[Any] = [
                WholeAnswer(tuned.encoder.decode_answer, tuple(stop_ids), options.max_new_tokens)
                if retries is None
                else StoppingState(tuned.encoder.decode_answer, stop_ids, options.max_new_tokens, retries, end_bonus)
                for _ in batch
            ]
            how = replace(config.generate, max_new_tokens=options.max_new_tokens, **settings)
            decode_batch(tuned.model, tuned.device, batch, states, how)
            results = [(state.text(), state.finish_reason, len(state.ids)) for state in states]
        for index, result in zip(indices, results, strict=True):
            answers[index] = result
    speed = sum(answer[2] for answer in answers) / (time.perf_counter() - started)
    kept = {
        "questions": texts,
        "max_new_tokens": options.max_new_tokens,
        "tokens_per_second": speed,
        "answers": answers,
    }
    path.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
    return [GeneratedAnswer(*answer) for answer in answers], speed


def by_transformers(
    tuned: LoadedModel, prompts: list[list[int]], stop_ids: frozenset[int], limit: int, settings: dict[str, Any]
) -> list[tuple[str, str, int]]:
    """Answer by Transformers' own ``generate``, prompts padded on the left."""
    longest = max(map(len, prompts))
    padding = tuned.model.config.eos_token_id
    padding = padding[0] if isinstance(padding, list) else padding
    ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    made = tuned.model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=sorted(stop_ids),
        pad_token_id=padding,
        **settings,
    )
    results = []
    for row in made[:, longest:].tolist():
        end = next((place for place, token in enumerate(row) if token in stop_ids), None)
        kept = row[:end]
        results.append((tuned.encoder.decode_answer(kept), "length" if end is None else "stop", len(kept)))
    return results


def measure(
    config: Config, run: RunFolder, encoder: Any, questions: Questions, answers: dict[str, list[GeneratedAnswer]]
) -> dict[str, dict[str, Resampled]]:
    """Return the figures of each way; ``nll`` is that of the way's own texts under the base model."""
    scores: dict[str, list[AnswerScore]] = {}
    base = load_model("base", run, config.model, config.prompt, packed=True)
    for way, of_way in answers.items():
        examples = encoder.encode_examples(questions.texts, [answer.text for answer in of_way], 2048)
        scores[way] = score_answers(base.model, examples, batch_size=8, device=base.device, dtype=base.dtype)
    bootstrap = ClusterBootstrap([row.topic or row.question for row in questions.rows], 1000, config.seed)
    figures: dict[str, dict[str, Resampled]] = {}
    for way, of_way in answers.items():
        by_text = dict(zip(questions.texts, scores[way], strict=True))
        samples = [
            replace(sample, nll_sum=by_text[sample.question].nll_sum, answer_tokens=by_text[sample.question].num_tokens)
            for sample in samples_of(way, questions, None, of_way)
        ]
        figures[way] = {}
        for name in METRICS:
            parts = metric(name).parts(samples)
            assert parts is not None
            figures[way][name] = bootstrap.figure(parts, metric(name).reduce)
    return figures


def as_json(figure: Resampled) -> list[float]:
    """Return value, low and high."""
    estimate = figure.estimate()
    return [estimate.value, estimate.low, estimate.high]


def show(
    table: dict[str, dict[str, list[float]]],
    differences: dict[str, dict[str, list[float]]],
    speeds: dict[str, float],
    first: str,
) -> None:
    """Print the figures, then the differences from the first way."""
    print(f"\n{'':13}" + "".join(f"{name:>16}" for name in METRICS) + f"{'tokens/s':>10}")
    for way, of_way in table.items():
        print(f"{way:13}" + "".join(f"{of_way[name][0]:16.3f}" for name in METRICS) + f"{speeds[way]:10.0f}")
    print(f"\nless {first}, with 95 % intervals")
    for way, of_way in differences.items():
        cells = ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*of_way[name]) for name in METRICS]
        print(f"{way:13}" + " ".join(f"{cell:>25}" for cell in cells))


if __name__ == "__main__":
    main()
