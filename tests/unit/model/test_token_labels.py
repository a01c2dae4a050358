"""Labels of a token-classification model as parts of texts: word pieces, prefixes, windows, batches; wrong folders."""

import json
import random
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.token_classifier import save_classifier
from medqa_cli.errors import InputError
from medqa_cli.model.token_labels import TokenLabeler, load_token_labeler

NAMES = {"zo": "B-PER", "##fia": "O", "lee": "I-PER", "anna": "B-PER", "march": "B-DATE", "5": "I-DATE"}


def load(folder: Path) -> TokenLabeler:
    return load_token_labeler(str(folder), "data.identifiers_model")


def found(labeler: TokenLabeler, text: str) -> list[tuple[str, str]]:
    return [(text[start:end], label) for start, end, label in labeler.label([text])[0]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> TokenLabeler:
    return load(save_classifier(tmp_path_factory.mktemp("people"), NAMES))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Zófia Lee fell.", [("Zófia Lee", "PER")]),  # its second piece has the label O
        ("😀 Zofi\u0301a, 😀 fell", [("Zofi\u0301a", "PER")]),
        ("Anna Zofia Lee, ANNA", [("Anna", "PER"), ("Zofia Lee", "PER"), ("ANNA", "PER")]),
        ("Lee on March 5.", [("Lee", "PER"), ("March 5", "DATE")]),
        ("Anna\nLee", [("Anna", "PER"), ("Lee", "PER")]),
        ("Anna \ud800Lee", [("Anna \ud800Lee", "PER")]),  # a lone surrogate is no character to a tokenizer
        ("nobody", []),
        ("", []),
        ("\n", []),
    ],
)
def test_parts_stand_where_the_words_stand(people: TokenLabeler, text: str, parts: list[tuple[str, str]]) -> None:
    assert people.labels == ("DATE", "PER")
    assert found(people, text) == parts


@pytest.mark.parametrize("kind", ["bytes", "sentence pieces"])
def test_words_are_the_same_for_tokenizers_of_other_kinds(kind: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    text = "Zofi\u0301a Lee  and O'Brien: \U0001f600 Dr. Smith-Jones at 5"
    special = ["<unk>", "<pad>"]
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=270, special_tokens=special, initial_alphabet=alphabet)
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=45, special_tokens=special, unk_token="<unk>")
    made.train_from_iterator([text] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=20, pad_token="<pad>")

    class EachWord:
        config = SimpleNamespace(id2label={0: "O", 1: "S-ID"}, max_position_embeddings=22)

        def __call__(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(logits=torch.tensor([0.0, 1.0]).expand(*input_ids.shape, 2))

    labeler = TokenLabeler(EachWord(), tokenizer, torch.device("cpu"))
    assert found(labeler, "") == []  # this tokenizer adds nothing
    words = [word for word, _ in found(labeler, text)]
    assert words == [
        "Zofi\u0301a",
        "Lee",
        "and",
        "O",
        "'",
        "Brien",
        ":",
        "\U0001f600",
        "Dr",
        ".",
        *["Smith", "-", "Jones", "at", "5"],
    ]


@pytest.mark.parametrize(
    ("pieces", "text", "parts"),
    [
        ({"a": "B-ID", "b": "I-ID", "c": "E-ID", "d": "S-ID"}, "a b c d d c b", ["a b c", "d", "d", "c", "b"]),
        ({"a": "B-ID", "b": "I-ID", "c": "L-ID", "d": "U-ID"}, "a b c a d b", ["a b c", "a", "d", "b"]),
        ({"a": "ID", "b": "ID"}, "a b x a", ["a b", "a"]),
        ({"a": "b-id", "b": "i-id"}, "a b a", ["a b", "a"]),
        ({"a": "E-MAIL", "b": "ID"}, "a a b", ["a a", "b"]),  # no prefix, as another label has none
    ],
)
def test_prefixes_of_labels_tell_where_a_part_begins_and_ends(
    tmp_path: Path, pieces: dict[str, str], text: str, parts: list[str]
) -> None:
    labeler = load(save_classifier(tmp_path, pieces))
    assert [part for part, _ in found(labeler, text)] == parts
    assert ("E-MAIL" in labeler.labels) == ("E-MAIL" in pieces.values())


def test_a_name_across_the_border_of_a_window_is_found_once_and_whole(tmp_path: Path) -> None:
    """A window holds 24 tokens, of which 3 at either end see nothing; the next one begins 17 later."""
    labeler = load(save_classifier(tmp_path, {"anna": "B-PER", "mary": "I-PER", "lee": "I-PER"}, positions=28, blind=3))
    for before in range(4, 60):
        for behind in (4, 40):
            text = "x " * before + "Anna Mary Lee" + " x" * behind
            assert found(labeler, text) == [("Anna Mary Lee", "PER")], (before, behind)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, so that labels depend on what is around."""
    labels = ("O", "B-PER", "I-PER", "B-DATE", "I-DATE")
    return save_classifier(tmp_path_factory.mktemp("drawn"), NAMES, labels, positions=66, seed=3)


def some_texts(count: int, longest: int) -> list[str]:
    draw = random.Random(5)
    words = [
        "Zófia",
        "lee",
        "Anna's",
        "march",
        "5",
        "x-ray",
        "(flu)",
        "😀",
        "".join(draw.sample(string.ascii_letters, 9)),
    ]
    return [" ".join(draw.choices(words, k=draw.randint(0, longest))) for _ in range(count)]


def test_texts_together_are_labeled_as_each_by_itself(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeler, texts = load(drawn), some_texts(40, 60)
    shares: list[float] = []
    monkeypatch.setattr("medqa_cli.model.token_labels._BATCH_TOKENS", {"cpu": 256})
    together = labeler.label(texts, shares.append)
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert together == [labeler.label([text])[0] for text in texts]
    assert {label for parts in together for _, _, label in parts} == {"DATE", "PER"}


def test_parts_are_those_of_the_pipeline_of_transformers(drawn: Path) -> None:
    from transformers import pipeline

    labeler = load(drawn)
    peer: Any = pipeline("token-classification", str(drawn), aggregation_strategy="first")
    texts = [text for text in some_texts(60, 7) if text]
    assert max(len(peer.tokenizer(text)["input_ids"]) for text in texts) <= 64  # it does not read longer ones
    num_parts = 0
    for text in texts:
        theirs = [(each["start"], each["end"], each["entity_group"]) for each in peer(text)]
        assert labeler.label([text])[0] == theirs, text
        num_parts += len(theirs)
    assert num_parts > 100


def test_a_folder_that_lacks_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.identifiers_model: .*/gone is no folder") as refused:
        load(tmp_path / "gone")
    assert "downloads none" in str(refused.value.hint)
    for name, message in (
        ("config.json", "holds no config.json"),
        ("model.safetensors", "holds no model.safetensors"),
        ("tokenizer.json", "tokenizer"),
    ):
        folder = save_classifier(tmp_path / name, NAMES)
        (folder / name).unlink()
        with pytest.raises(InputError, match=message):
            load(folder)


def test_a_model_that_does_not_classify_tokens_is_refused(tmp_path: Path) -> None:
    from transformers import BertModel

    folder = save_classifier(tmp_path, NAMES)
    BertModel.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(InputError, match=r"lack 2 weights of the model: classifier\.bias, classifier\.weight"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "one", NAMES)
    larger = save_classifier(tmp_path / "other", {**NAMES, "more": "O"})
    (folder / "tokenizer.json").write_bytes((larger / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"has tokens up to number \d+, and the model only the first \d+"):
        load(folder)


def test_an_adapter_and_a_quantized_model_are_refused(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path, NAMES)
    config = json.loads((folder / "config.json").read_text())
    quantized = config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    (folder / "config.json").write_text(json.dumps(quantized))
    with pytest.raises(InputError, match="is quantized"):
        load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="is an adapter"):
        load(folder)
