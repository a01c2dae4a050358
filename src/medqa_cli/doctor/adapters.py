"""Checks of a trained adapter: a real training run, then answers in batches = alone, and merge = PEFT's merge."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from medqa_cli.answering import engines
from medqa_cli.answering.generate import prompt_questions
from medqa_cli.config.schema import Config
from medqa_cli.doctor.finding import Measured
from medqa_cli.doctor.reference import plain_base, relative
from medqa_cli.doctor.subject import Subject
from medqa_cli.merging import run as merging
from medqa_cli.model.load import LoadedModel, load_model
from medqa_cli.training import run as training

_QUESTIONS = ("What is bako?", "How to treat a dicolo of the numi, and who gets it?", "Is sati a fego?", "Why?")
_MERGED = 1e-4  # relative to the logits


def _train_once(subject: Subject) -> None:
    """Run a training of three steps as ``medqa train`` does, unless that was done."""
    if not subject.run.train_json_path.is_file():
        training.train(subject.config, subject.run, f"# a training of {subject.name}\n", restart=True)


def batched_is_alone(subject: Subject) -> Measured:
    """Compare greedy answers of several questions at once with each alone, and with no cache of keys and values."""
    _train_once(subject)
    config = _in_float32(subject.config)
    answerer = load_model("adapter", subject.run, config.model, config.prompt, batches=True)
    together = _answers(answerer, _QUESTIONS, config)
    alone = [_answers(answerer, [question], config)[0] for question in _QUESTIONS]
    plain = [_greedy(answerer, question, config) for question in _QUESTIONS]
    differing = sum(ids != other for ids, other in zip(together, alone, strict=True))
    differing += sum(ids != other for ids, other in zip(alone, plain, strict=True))
    count = sum(map(len, together))
    engines.release(answerer)
    return Measured(differing, 0, f"answers differ, of {len(_QUESTIONS)} with {count} tokens, in float32")


def _in_float32(config: Config) -> Config:
    """Return the config with products in float32: in 16 bits two tokens may be as likely, and either is right."""
    return replace(config, model=replace(config.model, compute_dtype="float32"))


def _answers(answerer: LoadedModel, questions: Sequence[str], config: Config) -> list[list[int]]:
    prompted = prompt_questions(answerer, questions, config.generate)
    prompts, states = [one.ids for one in prompted], [one.state for one in prompted]
    engines.decode(answerer, prompts, states, config.generate, lambda row: None)
    return [list(state.ids) for state in states]


def _greedy(answerer: LoadedModel, question: str, config: Config) -> list[int]:
    """Return the likeliest tokens, each found by a forward pass over all that stands before it."""
    (prompted,) = prompt_questions(answerer, [question], config.generate)
    ids: list[int] = []
    with torch.inference_mode():
        while len(ids) < config.generate.max_new_tokens:
            row = torch.tensor([[*prompted.ids, *ids]], device=answerer.device)
            best = int(answerer.model(input_ids=row, use_cache=False).logits[0, -1].argmax())
            if best in answerer.encoder.contract.stop_token_ids:
                break
            ids.append(best)
    return ids


def merge_is_peft(subject: Subject) -> Measured:
    """Compare the merged model, as other tools load it, with base + adapter merged by PEFT."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _train_once(subject)
    quantization = subject.config.model.quantization
    weights: merging.BaseWeights = "nf4" if quantization in ("nf4", "fp4") else "original"
    config = _in_float32(subject.config)
    out = subject.run.path / "merged-by-doctor"
    merging.merge(config, subject.run, out, weights, "float32")
    merged = AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    loaded = load_model("base", subject.run, config.model, config.prompt, packed=True)
    like = loaded.model if weights == "nf4" else torch.nn.Module()
    base = plain_base(subject, like)
    ids = torch.tensor([subject.inputs.data.examples[-1].input_ids])
    with torch.inference_mode():
        without = base(input_ids=ids).logits
        right = PeftModel.from_pretrained(base, str(subject.run.adapter_dir)).merge_and_unload()(input_ids=ids).logits
        got = merged.eval()(input_ids=ids).logits
    effect, apart = relative(right, without), relative(right, got)
    problem = (
        "" if effect > 10 * _MERGED else f"the adapter changes the logits by {effect:.2g} only: nothing was learned"
    )
    return Measured(apart, _MERGED, f"apart in logits, of which the adapter changes {effect:.2g}", problem)
