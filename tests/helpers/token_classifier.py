"""A tiny token-classification model whose weights are set by hand: a word piece has the label that a table gives it."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_HIDDEN = 32


def make_tokenizer(pieces: Sequence[str], max_length: int) -> Any:
    """Return a tokenizer as BERT's, without capitals and accents; a word that is no piece falls into its letters."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    signs = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = dict.fromkeys([*_SPECIAL, *signs, *(f"##{sign}" for sign in signs), *pieces])
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def make_classifier(labels: Sequence[str], num_pieces: int, positions: int, seed: int | None = None) -> Any:
    """Return a BERT of two layers; without a seed its layers do nothing, and all that is looked up is zero."""
    import torch
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(seed or 0)
    config = BertConfig(
        vocab_size=num_pieces,
        hidden_size=_HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=positions,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        initializer_range=0.02 if seed is None else 0.7,
    )
    model = BertForTokenClassification(config).eval().requires_grad_(False)
    if seed is None:
        for layer in model.bert.encoder.layer:
            for linear in (layer.attention.output.dense, layer.output.dense):
                linear.weight.zero_()
                linear.bias.zero_()
        embeddings = model.bert.embeddings
        for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
            table.weight.zero_()
        model.classifier.weight.copy_(torch.eye(_HIDDEN)[: len(labels)])
        model.classifier.bias.zero_()
    return model


def save_classifier(
    folder: Path,
    pieces: Mapping[str, str],
    labels: Sequence[str] | None = None,
    *,
    positions: int = 130,
    blind: int = 0,
    seed: int | None = None,
) -> Path:
    """Save a model in a folder.

    Args:
        folder: where.
        pieces: word pieces in small letters, those within a word with ##, and the label of each; others have O.
        labels: O and the others; None: those of the pieces.
        positions: how many tokens it reads at once, and two more.
        blind: at so many places of either end of a full window it sees nothing but O.
        seed: draw weights instead, that know nothing of the pieces.
    """
    names = labels or ("O", *sorted(set(pieces.values()) - {"O"}))
    tokenizer = make_tokenizer(list(pieces), positions - 2)
    model = make_classifier(names, len(tokenizer), positions, seed)
    if seed is None:
        embeddings = model.bert.embeddings
        embeddings.word_embeddings.weight[:, 0] = 1.0
        for piece, label in pieces.items():
            row = embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids(piece)]
            row.zero_()
            row[names.index(label)] = 1.0
        for place in (*range(1, 1 + blind), *range(positions - 3 - blind, positions - 3)):
            embeddings.position_embeddings.weight[place, 0] = 5.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
