"""Tiny models and tokenizers, built in the process. Nothing is downloaded."""

import json
from pathlib import Path
from typing import Any

CORPUS = [
    "What is glaucoma? Glaucoma is a disease of the optic nerve.",
    "How to treat asthma? Asthma is treated with inhaled medicines.",
    "Answer the Question about symptoms, causes and treatments of diseases.",
    "system user assistant Instruction Response Question Answer INST SYS",
] * 20

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The form of Llama-2's own template: it writes the BOS that the tokenizer adds as well.
LLAMA_CHAT = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}{{ message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)

# Of a two-layer Llama with grouped attention.
TINY_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def looping_model(tiny_model_dir: Path) -> Any:
    """The tiny model with larger weights: each prompt goes its own way, and soon in circles. float32."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval().requires_grad_(False)
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.1
    return model


def make_bos_tokenizer() -> Any:
    """A tokenizer in the manner of Llama 2: SentencePiece-like pieces, BOS added by itself, pad == unk."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    # Trained word by word: otherwise whole sentences become one token.
    tokenizer.train_from_iterator([word for text in CORPUS for word in text.split()], trainer)
    # The trainer takes the byte pieces only as special tokens; in Llama's tokenizer they are ordinary pieces.
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] not in bytes_]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        chat_template=LLAMA_CHAT,
    )


def make_chatml_tokenizer() -> Any:
    """A tokenizer in the manner of SmolLM2: byte-level pieces, no BOS of its own, pad == eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )


def chat_prompt_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """The ids that other tools get for a conversation, by Transformers itself."""
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return list(found)


def make_tiny_model(vocabulary_size: int, **changes: Any) -> Any:
    """A two-layer Llama with grouped attention, float32, seeded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    values = {"vocab_size": vocabulary_size, **TINY_SIZES, "bos_token_id": 1, "eos_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(**values | changes))


# The form of Gemma's own template: it has no system message and calls the assistant "model".
GEMMA_CHAT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else "
    "message['role'] %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def make_qwen_tokenizer() -> Any:
    """A tokenizer of Qwen2's class: byte-level pieces of words that its own regular expression cuts, NFC, no BOS."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    plain.train_from_iterator([*CORPUS, *TEXTS_TO_CUT], trainer)
    saved = json.loads(plain.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=saved["vocab"], merges=[tuple(pair) for pair in saved["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = CHATML
    return tokenizer


def make_gemma_tokenizer() -> Any:
    """A tokenizer of Gemma's class: SentencePiece-like, bytes for what is unknown, runs of spaces and line ends."""
    from tokenizers import AddedToken, Tokenizer, models, trainers
    from transformers import GemmaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    plain = Tokenizer(models.BPE())
    words = [
        f"{'▁' * (number > 0)}{word}" for text in CORPUS + TEXTS_TO_CUT for number, word in enumerate(text.split())
    ]
    plain.train_from_iterator(words, trainers.BpeTrainer(vocab_size=350, show_progress=False))
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    runs = ["\n" * count for count in range(1, 5)] + ["▁" * count for count in range(2, 5)]
    names = [*special, *runs, *(f"<0x{value:02X}>" for value in range(256))]
    learned = sorted((one for one in plain.get_vocab().items() if one[0] not in names), key=lambda one: one[1])
    vocab = {name: number for number, name in enumerate([*names, *(piece for piece, _ in learned)])}
    scores = {name: 0.0 if name in runs else -float(number) for name, number in vocab.items() if number >= len(special)}
    pieces = {name: score for name, score in scores.items() if not name.startswith("<0x")}
    merges = [tuple(pair) for pair in generate_merges(vocab, pieces)]
    tokenizer = GemmaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in runs])
    tokenizer.chat_template = GEMMA_CHAT
    return tokenizer


# Of medical texts what tokenizers cut otherwise: units, digits, signs, other scripts, white space.
TEXTS_TO_CUT = [
    "Take 2.5 mg/kg of acetaminophen every 4-6 h (max. 4,000 mg/day); I'VE got SpO2 98% at 37.2 °C.",
    "β-blockers ≥10 µg/mL, 5×10⁹/L, pH≤7.35 → ICD-10: E11.9?",
    "naïve café Überempfindlichkeit 日本語の質問 вопрос о боли مرحبا 😀👩‍⚕️",
    "  two  spaces,   three\tand a tab \n\nnew line\r\n\r\n   \nend  ",
    "1234567890 12 345 6 000 mmHg140/90mmHg x²+y₂ ½ Ⅳ",
    "don't can't WE'LL they'd o'clock 'quoted' \"double\" (bracketed) [square] {curly} <tag> & co.",
]
