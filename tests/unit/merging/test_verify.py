"""The figures of a comparison against plain formulas, the bounds, and the choice between two merged models."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.models import make_tiny_model
from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.data.dataset import QaRow
from medqa_cli.merging import verify
from medqa_cli.merging.streaming_model import NotStreamable, largest_activation, streamed_model
from medqa_cli.merging.verify import (
    LogitMetrics,
    Verification,
    compare,
    computing_in,
    memory_needed_bytes,
    paired_difference,
    pick_examples,
)
from medqa_cli.model.kernels.attention import use_own_attention
from medqa_cli.model.kernels.packing import AnswerScore, answer_logits, pack, score_answers, scores_of_logits
from medqa_cli.model.load import load_base
from medqa_cli.model.resolve import ModelRef
from medqa_cli.model.weights import WeightFiles
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import Example, PromptEncoder

CPU = torch.device("cpu")


def examples_of(tokenizer: Any, count: int) -> list[Example]:
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), tokenizer), tokenizer)
    return encoder.encode_examples(
        [f"What is gout {i}?" for i in range(count)], ["Gout is. " * (i + 1) for i in range(count)], 400
    )


def load(folder: Path, quantization: Any, dtype: torch.dtype = torch.float32) -> Any:
    source = ModelRef(str(folder), str(folder), "folder")
    return load_base(source, ModelConfig(quantization=quantization), CPU, dtype, packed=True)


@pytest.mark.parametrize("scale", [0.0, 1e-4, 0.1, 3.0, 300.0])
def test_the_divergence_is_the_textbook_one(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(150, 500, generator=generator) * 4
    second = first + scale * torch.randn(150, 500, generator=generator)
    found = LogitMetrics()
    for start in (0, 100):
        found.add(first[start : start + 100], second[start : start + 100])
    log_p, log_q = (F.log_softmax(logits.double(), -1) for logits in (first, second))
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    assert found.num_tokens == 150
    assert found.mean_kl == pytest.approx(float(expected), rel=2e-3, abs=1e-12)
    assert found.max_abs_logit_difference == float((first - second).abs().max())
    assert found.top1_agreement == float((first.argmax(-1) == second.argmax(-1)).double().mean())


def test_scores_are_those_of_the_evaluation(tiny_model_dir: Path, chatml_tokenizer: Any) -> None:
    model, examples = load(tiny_model_dir, "nf4"), examples_of(chatml_tokenizer, 5)
    expected = score_answers(model, examples, batch_size=2, device=CPU, dtype=torch.float32)
    with torch.inference_mode():
        batch = pack(examples, CPU)
        found = scores_of_logits(answer_logits(model, batch), batch)
    assert [score.num_tokens for score in found] == [score.num_tokens for score in expected]
    assert [score.nll_sum for score in found] == pytest.approx([score.nll_sum for score in expected], rel=1e-5)


def test_paired_difference_against_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 200, size=200)
    first, second = rng.normal(2.0, 0.5, size=200) * tokens, rng.normal(1.9, 0.5, size=200) * tokens
    scores = [[AnswerScore(float(s), int(n)) for s, n in zip(sums, tokens, strict=True)] for sums in (first, second)]
    mean, error = paired_difference(scores[0], scores[1])
    assert mean == pytest.approx((first.sum() - second.sum()) / tokens.sum())
    drawn = rng.integers(0, 200, size=(4000, 200))
    means = (first - second)[drawn].sum(1) / tokens[drawn].sum(1)
    assert error == pytest.approx(means.std(), rel=0.05)
    assert paired_difference(scores[0][:1], scores[1][:1])[1] == math.inf


# A model that reads its weights while it computes


@pytest.mark.parametrize("tied", [True, False])
def test_a_streamed_model_computes_what_a_loaded_one_does(tmp_path: Path, chatml_tokenizer: Any, tied: bool) -> None:
    model = make_tiny_model(len(chatml_tokenizer))
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="60KB")
    files = WeightFiles.open(tmp_path)
    assert len(files.paths) > 2
    streamed, loaded = streamed_model(tmp_path, files, CPU, untied=False), load(tmp_path, "none")
    batch = pack(examples_of(chatml_tokenizer, 4), CPU)
    with torch.inference_mode():
        torch.testing.assert_close(answer_logits(streamed, batch), answer_logits(loaded, batch), rtol=1e-5, atol=1e-5)
    # It keeps no matrix: what is left are the norms.
    assert sum(parameter.numel() for parameter in streamed.parameters()) < 1000


def test_biases_and_other_layers_are_streamed_too(tmp_path: Path, chatml_tokenizer: Any) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(chatml_tokenizer), num_key_value_heads=2, **sizes))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    streamed, loaded = streamed_model(tmp_path, WeightFiles.open(tmp_path), CPU, untied=False), load(tmp_path, "none")
    batch = pack(examples_of(chatml_tokenizer, 3), CPU)
    with torch.inference_mode():
        torch.testing.assert_close(answer_logits(streamed, batch), answer_logits(loaded, batch), rtol=1e-5, atol=1e-5)


def test_experts_are_streamed_where_they_can_be_layers_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=300, num_key_value_heads=2, num_local_experts=2, **sizes)
    model = MixtralForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    streamed = streamed_model(tmp_path, WeightFiles.open(tmp_path), CPU, untied=False)
    use_own_attention(streamed)
    ids = torch.arange(5, 45).view(2, 20)
    with torch.inference_mode():
        torch.testing.assert_close(streamed(input_ids=ids).logits, model(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("medqa_cli.model.experts._is_plain", lambda module: False)
    with pytest.raises(NotStreamable, match="experts"):
        streamed_model(tmp_path, WeightFiles.open(tmp_path), CPU, untied=False)


def test_largest_activation_of_a_gpt2_sees_its_conv1d_layers(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=300, n_positions=64))
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.bias[7] = 1e5
        model.transformer.h[0].mlp.c_proj.weight[7] = 0  # what follows stays small
    model.save_pretrained(tmp_path)
    streamed = streamed_model(tmp_path, WeightFiles.open(tmp_path), CPU, untied=False)
    use_own_attention(streamed)
    assert largest_activation(streamed) == 0
    with torch.inference_mode():
        streamed(input_ids=torch.tensor([[1, 2, 3]]))
    assert largest_activation(streamed) == pytest.approx(1e5, rel=0.01)


# The reference


@pytest.mark.parametrize("loaded_in", [torch.float32, torch.bfloat16])
def test_computing_in_another_type_leaves_no_trace(
    tiny_model_dir: Path, chatml_tokenizer: Any, loaded_in: torch.dtype
) -> None:
    model = load(tiny_model_dir, "nf4", loaded_in)
    before = {name: value.clone() for name, value in model.named_parameters()}
    batch = pack(examples_of(chatml_tokenizer, 3), CPU)
    with computing_in(model, torch.float32):
        exact = answer_logits(model, batch)
        with computing_in(model, torch.bfloat16):
            rough = answer_logits(model, batch)
        assert answer_logits(model, batch).equal(exact)
    assert 0 < (exact - rough).abs().max() < 0.5
    after = dict(model.named_parameters())
    assert all(value.equal(after[name]) and value.dtype == after[name].dtype for name, value in before.items())
    # In float32 the arithmetic is that of a model that was loaded in float32 with the same 4-bit weights.
    if loaded_in == torch.float32:
        with torch.inference_mode():
            assert answer_logits(model, batch).equal(exact)


def test_needed_memory_equals_the_sum_by_hand(tmp_path: Path) -> None:
    from medqa_cli.merging.architecture import Architecture

    shapes: dict[str, tuple[int, ...]] = {"a.weight": (1000, 1000), "e.weight": (500, 1000), "h.weight": (500, 1000)}
    architecture = Architecture(shapes, {}, frozenset({"a"}), {"h.weight": "e.weight"}, "e.weight", "h.weight")
    adapter: Any = type("Adapter", (), {"shapes": {"x": (8, 1000)}})()
    spare = 1 << 30
    unquantized = memory_needed_bytes(architecture, adapter, "none") - spare
    assert unquantized == 6 * 1_500_000 + 4 * 8000
    in_four_bit = memory_needed_bytes(architecture, adapter, "nf4") - spare
    assert in_four_bit == 562_500 + 6 * 500_000 + 4 * 8000 + 32 * 1_000_000


# Judging


def scored(nll: float, kl: float = 0.0, top1: float = 1.0, spread: float = 0.0) -> LogitMetrics:
    """1,000 tokens in 10 answers, whose NLL scatters by ``spread`` around ``nll``."""
    scores = [AnswerScore(100 * (nll + spread * (-1) ** i), 100) for i in range(10)]
    return LogitMetrics(1000, kl * 1000, 0.1, round(top1 * 1000), scores)


def verification(nf4: LogitMetrics, original: LogitMetrics, noise_top1: float = 1.0) -> Verification:
    return Verification(
        adapter_scores=scored(2.0).scores,
        noise_floor=scored(2.0, top1=noise_top1),
        candidates={"nf4": nf4, "original": original},
        faithful=frozenset({"nf4"}),
        num_questions=10,
    )


@pytest.mark.parametrize(
    ("nf4", "original", "better"),
    [
        (scored(2.0), scored(1.9), "original"),
        # The same gain, once in all questions alike and once as chance may bring it.
        (scored(2.0), scored(1.9, spread=0.01), "original"),
        (scored(2.0), scored(1.9, spread=3.0), "nf4"),
        (scored(2.0), scored(2.005), "nf4"),
        (scored(1.9), scored(1.95), "nf4"),
        # The likelier one, but it does not meet the bound that holds for it.
        (scored(1.9, kl=2e-3), scored(2.0), "original"),
        (scored(1.9, top1=0.98), scored(2.0), "original"),
        (scored(2.0), scored(1.0, kl=math.nan), "nf4"),
    ],
)
def test_auto_leaves_the_trained_weights_only_for_a_gain_or_a_bound(
    nf4: LogitMetrics, original: LogitMetrics, better: str
) -> None:
    assert verification(nf4, original).better() == better


@pytest.mark.parametrize(
    ("nf4", "said"),
    [
        (scored(2.0, kl=1e-3, top1=0.99), ""),
        (scored(2.0, kl=1.1e-3), "mean KL divergence 1.10e-03 nats (at most 1e-03)"),
        (scored(2.0, top1=0.989), "top-1 agreement with base + adapter is 0.9890 (at least 0.99 is required"),
        (scored(math.inf), "not finite"),
        # 99 tokens are too few for the share of near ties; not so for the divergence.
        (LogitMetrics(99, 0.0, 0.1, 98, scored(2.0).scores), ""),
        (LogitMetrics(99, 0.2, 0.1, 98, scored(2.0).scores), "mean KL divergence"),
    ],
)
def test_bounds_of_the_weights_of_the_training(nf4: LogitMetrics, said: str) -> None:
    problem = verification(nf4, scored(2.0)).problem("nf4")
    assert said in problem if said else problem == ""


def test_near_ties_that_bfloat16_turns_as_well_are_no_fault() -> None:
    nf4 = scored(2.0, kl=1e-4, top1=0.985)
    assert verification(nf4, scored(2.0), noise_top1=0.96).problem("nf4") == ""
    assert "0.9850" in verification(nf4, scored(2.0), noise_top1=0.999).problem("nf4")
    assert "0.9500" in verification(scored(2.0, top1=0.95), scored(2.0), noise_top1=0.96).problem("nf4")
    assert "KL" in verification(scored(2.0, kl=2e-3), scored(2.0), noise_top1=0.5).problem("nf4")


@pytest.mark.parametrize(
    ("original", "fits"),
    [
        (scored(1.5, kl=0.5, top1=0.5), True),  # it may differ, as long as it is not worse
        (scored(2.009), True),
        (scored(2.02), False),
        (scored(2.02, spread=0.1), True),  # within what ten answers cannot tell from chance
        (scored(2.2, spread=0.1), False),
    ],
)
def test_other_weights_must_not_be_worse(original: LogitMetrics, fits: bool) -> None:
    problem = verification(scored(2.0), original).problem("original")
    assert (problem == "") is fits
    assert fits or "less likely than the adapter's by" in problem


def test_the_json_of_a_failed_comparison_says_so() -> None:
    found = verification(scored(2.0, kl=0.1), scored(1.9)).as_json("nf4")
    assert (found["passed"], found["mean_kl"], found["answer_tokens"]) == (False, 0.1, 1000)
    assert "mean KL" in found["problem"]
    assert found["answer_nll"] == pytest.approx({"adapter": 2.0, "nf4": 2.0, "original": 1.9})
    assert found["nll_difference"]["original-nf4"]["value"] == pytest.approx(-0.1)


# Batches and questions


def test_comparing_in_batches_gives_the_same_sums(
    tiny_model_dir: Path, chatml_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, examples = load(tiny_model_dir, "nf4"), examples_of(chatml_tokenizer, 6)
    candidates = {"original": load(tiny_model_dir, "none")}
    size = len(chatml_tokenizer)
    whole = compare(model, candidates, examples, CPU, size)
    monkeypatch.setattr(verify, "_MAX_LOGITS", 40 * size)
    monkeypatch.setattr(verify, "_FEW_TOKENS", 30)
    monkeypatch.setattr(verify, "_WANTED_TOKENS", 30)
    parts = compare(model, candidates, examples, CPU, size)
    tokens = sum(example.num_answer_tokens for example in examples)
    one, two = whole.candidates["original"], parts.candidates["original"]
    assert one.num_tokens == two.num_tokens == tokens
    assert one.mean_kl == pytest.approx(two.mean_kl, rel=1e-3)
    assert one.nll == pytest.approx(two.nll, rel=1e-6)
    assert whole.noise_floor.num_tokens == tokens
    assert 30 <= parts.noise_floor.num_tokens < tokens  # there were several batches
    assert 0 < whole.noise_floor.mean_kl < one.mean_kl
    assert [score.num_tokens for score in parts.adapter_scores] == [e.num_answer_tokens for e in examples]


def test_questions_are_spread_and_enough(chatml_tokenizer: Any) -> None:
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    rows = [QaRow(str(i), f"What is number {i}?", "It is a number. " * (1 + i % 7), "", "") for i in range(90)]
    chosen = pick_examples(rows, encoder, 400, 600)
    tokens = [example.num_answer_tokens for example in chosen]
    assert 600 <= sum(tokens) < 600 + 3 * max(tokens)
    everything = pick_examples(rows[:5], encoder, 400)
    assert len(everything) == 5
    position = [
        rows.index(
            next(
                r
                for r in rows
                if encoder.encode_prompt(r.question) == e.input_ids[: len(encoder.encode_prompt(r.question))]
            )
        )
        for e in chosen
    ]
    assert position == sorted(position)
    assert position[-1] > 80
    assert pick_examples([], encoder, 400) == []
