"""GGUF files of each architecture, read by llama.cpp itself: its logits, its greedy tokens, its ids of a text."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("xllamacpp", reason="the extra fast is not installed")

from helpers.llama_cpp import llama_ids
from helpers.models import TEXTS_TO_CUT, make_chatml_tokenizer, make_gemma_tokenizer, make_qwen_tokenizer
from medqa_cli.config.schema import GenerateConfig, PromptConfig
from medqa_cli.gguf.export import export_gguf
from medqa_cli.model.llamacpp import LlamaWeights
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
# Type of model, tokenizer, sizes of its own.
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (make_chatml_tokenizer, {}),
    "qwen2": (make_qwen_tokenizer, {}),
    "qwen3": (make_qwen_tokenizer, {"head_dim": 32, "tie_word_embeddings": False}),
    # Seven layers: the sixth attends to everything. The prompts are longer than the window.
    "gemma3_text": (
        make_gemma_tokenizer,
        {"head_dim": 32, "query_pre_attn_scalar": 32, "num_hidden_layers": 7, "sliding_window": 16},
    ),
}
QUESTIONS = [
    *(f"What is {name}?" for name in ("gout", "asthma", "a cold", "flu", "a rash", "rest", "pain")),
    *(f"How to treat {name} in children of {age} years?" for age, name in enumerate(("gout", "asthma", "flu"), 3)),
    *TEXTS_TO_CUT,
    *(f"{text} {text}"[: 40 + 30 * number] for number, text in enumerate(TEXTS_TO_CUT[:4])),
]
NEAR = 0.1  # of logits that span some 20; llama.cpp rounds what it multiplies to f16
NEW_TOKENS = 10


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of this type with weights that f16 holds exactly, and its f16 file as llama.cpp has it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    make_tokenizer, changes = KINDS[request.param]
    tokenizer, folder = make_tokenizer(), tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, vocab_size=len(tokenizer) + 3, **SIZES | changes)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        spread = 0.3 if parameter.dim() == 1 else 0.2
        # Gemma adds 1 itself.
        is_norm = name.endswith("norm.weight") and request.param != "gemma3_text"
        parameter.data = (torch.randn_like(parameter) * spread + is_norm).half().float()
    model.save_pretrained(folder / "merged")
    tokenizer.save_pretrained(folder / "merged")
    contract = make_contract(PromptConfig(template="chat", system=None), tokenizer)
    contract.save(folder / "merged")
    with pytest.MonkeyPatch.context() as patch:
        # As in ``unconfined``, which is a fixture of one test.
        for module in ("prompt.rendering", "model.checks.model_files"):
            patch.setattr(f"medqa_cli.{module}.call", lambda function, *given, **limits: function(*given))
        export_gguf(folder / "merged", contract, ("f16",), folder / "gguf", "tiny", GenerateConfig())
    weights = LlamaWeights(folder / "gguf" / "tiny-f16.gguf")
    encoder = PromptEncoder(contract, tokenizer)
    yield SimpleNamespace(kind=request.param, model=model, encoder=encoder, tokenizer=tokenizer, weights=weights)
    weights.close()


def test_greedy_tokens_of_twenty_prompts_are_those_of_transformers(exported: Any) -> None:
    """But for near ties."""
    prompts = exported.encoder.encode_prompts(QUESTIONS)
    assert len(prompts) == 20
    context, same = exported.weights.open(1, 512), 0
    for ids in prompts:
        context.forget(0, 0)
        tokens, num_read = list(ids), 0
        while len(tokens) < len(ids) + NEW_TOKENS:
            logits = torch.from_numpy(context.read([(0, num_read, tokens[num_read:], True)])[0])
            num_read = len(tokens)
            with torch.inference_mode():
                own = exported.model(torch.tensor([tokens])).logits[0, -1]
            assert float((logits - own).abs().max()) < NEAR
            if int(logits.argmax()) != int(own.argmax()):
                assert float(own.max() - own[logits.argmax()]) < NEAR
                break
            tokens.append(int(own.argmax()))
        else:
            same += 1
    context.close()
    assert same >= 19
    assert float(own.std()) > 1


def test_the_memory_of_a_token_is_that_of_its_keys_and_values_in_16_bits(exported: Any) -> None:
    config = exported.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    expected = config.num_hidden_layers * config.num_key_value_heads * size * 2 * 2
    assert exported.weights.token_bytes() == expected


def test_a_prompt_has_the_ids_of_the_tokenizer(exported: Any) -> None:
    for question, ids in zip(QUESTIONS, exported.encoder.encode_prompts(QUESTIONS), strict=True):
        # llama.cpp adds the BOS itself where the file says so.
        assert llama_ids(exported.weights, exported.encoder.contract.text.prompt(question)) == ids
