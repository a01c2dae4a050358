"""A local model that labels parts of texts, such as names of persons: Transformers' token classification.

Nothing is downloaded. A text that is longer than the model reads at once goes through it in windows that overlap; each
token has its label from the window that shows most around it. A word has the label of its first token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medqa_cli import console
from medqa_cli.errors import InputError, MedqaError

if TYPE_CHECKING:
    import torch

_WHAT_IS_NEEDED = (
    "name a folder with a token-classification model that you have downloaded: config.json with id2label, "
    "model.safetensors, and a tokenizer (tokenizer.json); medqa downloads none"
)
_ADAPTER_NAME = "adapter_config.json"
# Tokens of a window, and how many of them the next one repeats; more of either makes a model no better.
_LONGEST_WINDOW, _SHORTEST_WINDOW, _OVERLAP_SHARE = 512, 8, 4
# Models of RoBERTa's kind count positions from the one behind the padding's.
_POSITIONS_NOT_USED = 2
_BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}
_PREFIX = re.compile(r"([BIOESLUMW])-(.+)", re.IGNORECASE)
_OUTSIDE = "O"
_BEGINS, _ENDS = frozenset("BSUW"), frozenset("ESLUW")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Letters, digits and the marks upon them, but those of scripts without spaces.
_MARK = re.compile("[\u0300-\u036f]")
_OF_WORD = rf"(?:[^\W_\u3040-\u30ff\u3400-\u9fff]|{_MARK.pattern})"
_WITHIN_WORD = re.compile(_OF_WORD * 2)


class LabeledPart(NamedTuple):
    """A part of a text, characters from ``start`` to before ``end``, and its label without a prefix such as B-."""

    start: int
    end: int
    label: str


class _Window(NamedTuple):
    """Tokens that go through the model together.

    ``first``: of its text's tokens, the number of its first one; ``content``: which of ``ids`` are tokens of the text.
    """

    text: int
    first: int
    is_last: bool
    ids: list[int]
    type_ids: list[int]
    places: list[tuple[int, int]]
    words: list[int | None]
    content: list[int]


class _Tokens:
    """The tokens of a text: their places, the numbers of their words, and the likeliest label of each."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self.words: list[int | None] = []
        self.labels: list[int] = []
        self._shown: list[float] = []

    def add(self, window: _Window, labels: Sequence[int]) -> None:
        """Take the labels of a window for those tokens around which it shows more than the windows before."""
        for number, (place, label) in enumerate(zip(window.content, labels, strict=True)):
            before = number if window.first else float("inf")
            behind = float("inf") if window.is_last else len(window.content) - 1 - number
            token, shown = window.first + number, min(before, behind)
            if token == len(self.places):
                self.places.append(window.places[place])
                self.words.append(window.words[place])
                self.labels.append(label)
                self._shown.append(shown)
            elif shown > self._shown[token]:
                self.labels[token], self._shown[token] = label, shown


class TokenLabeler:
    """A token-classification model in memory.

    Args:
        model: the model, in eval mode.
        tokenizer: a fast one.
        device: where the model is.
    """

    def __init__(self, model: Any, tokenizer: Any, device: torch.device) -> None:
        self._model, self._tokenizer, self._device = model, tokenizer, device
        names: dict[int, str] = model.config.id2label
        named = [name for name in names.values() if name != _OUTSIDE]
        are_prefixed = bool(named) and all(_PREFIX.fullmatch(name) for name in named)
        # The prefix of each (B, I, O, E, S, L, U, M or W; empty: none) and the rest of it.
        self._labels: dict[int, tuple[str, str]] = {}
        for number, name in names.items():
            found = _PREFIX.fullmatch(name) if are_prefixed else None
            self._labels[number] = (found[1].upper(), found[2]) if found else ("", name)
        # Each without its prefix, sorted.
        self.labels = tuple(sorted({label for _, label in self._labels.values()} - {_OUTSIDE}))
        positions = getattr(model.config, "max_position_embeddings", None) or _LONGEST_WINDOW + _POSITIONS_NOT_USED
        self._longest = min(tokenizer.model_max_length, positions - _POSITIONS_NOT_USED, _LONGEST_WINDOW)
        self._room: int = self._longest - tokenizer.num_special_tokens_to_add()
        self._overlap = self._room // _OVERLAP_SHARE

    @property
    def is_usable(self) -> bool:
        """Whether a window of the model holds enough for names to be told from what is around them."""
        return self._room >= _SHORTEST_WINDOW

    def label(
        self, texts: Sequence[str], tell: Callable[[float], None] = lambda share: None
    ) -> list[list[LabeledPart]]:
        """Return the labeled parts of each text, in its order.

        Args:
            texts: the texts.
            tell: is told now and then which share of the work is done.

        Raises:
            MedqaError: the model's results are not finite numbers.
        """
        windows = [window for number, text in enumerate(texts) for window in self._windows(number, text)]
        labels: list[list[int]] = [[] for _ in windows]
        order = sorted(range(len(windows)), key=lambda place: len(windows[place].ids))
        # Windows of about one length, as many as the device takes at once.
        batches: list[list[int]] = []
        for place in order:
            if not batches or (len(batches[-1]) + 1) * len(windows[place].ids) > _BATCH_TOKENS[self._device.type]:
                batches.append([])
            batches[-1].append(place)
        total, done = sum(len(window.ids) for window in windows), 0
        for batch in batches:
            for place, found in zip(batch, self._labels_of([windows[place] for place in batch]), strict=True):
                labels[place] = found
                done += len(windows[place].ids)
            tell(done / total)
        tokens = [_Tokens() for _ in texts]
        for window, found in zip(windows, labels, strict=True):
            tokens[window.text].add(window, found)
        return [list(self._parts(text, made)) for text, made in zip(texts, tokens, strict=True)]

    def _windows(self, number: int, text: str) -> Iterator[_Window]:
        # A lone surrogate is no character, and what stands for it is one, too.
        encoded = self._tokenizer(
            _LONE_SURROGATE.sub("\ufffd", text),
            truncation=True,
            max_length=self._longest,
            stride=self._overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        encodings = encoded.encodings
        for place, encoding in enumerate(encodings):
            content = [token for token, is_added in enumerate(encoding.special_tokens_mask) if not is_added]
            if not content:  # of an empty text
                continue
            first = place * (self._room - self._overlap)
            is_last = place == len(encodings) - 1
            # Each of these makes a new list whenever it is asked for.
            lists = (encoding.ids, encoding.type_ids, encoding.offsets, encoding.word_ids)
            yield _Window(number, first, is_last, *lists, content)

    def _labels_of(self, windows: Sequence[_Window]) -> list[list[int]]:
        """Return the number of the likeliest label of each token of some windows, without those of the tokenizer."""
        import torch

        length = len(windows[-1].ids)
        columns = {
            "input_ids": ([window.ids for window in windows], self._tokenizer.pad_token_id or 0),
            "attention_mask": ([[1] * len(window.ids) for window in windows], 0),
            "token_type_ids": ([window.type_ids for window in windows], 0),
        }
        inputs = {
            name: torch.tensor([row + [padding] * (length - len(row)) for row in rows], device=self._device)
            for name, (rows, padding) in columns.items()
            if name in self._tokenizer.model_input_names or name == "attention_mask"
        }
        with torch.inference_mode():
            logits = self._model(**inputs).logits
            likeliest = logits.argmax(-1).tolist()
            is_finite = bool(logits.isfinite().all())
        if not is_finite:
            raise MedqaError(
                "the model of data.identifiers_model computes what is no finite number", "check its weights"
            )
        return [[row[token] for token in window.content] for row, window in zip(likeliest, windows, strict=True)]

    def _parts(self, text: str, tokens: _Tokens) -> Iterator[LabeledPart]:
        """Yield the words of a text that belong together as one part; what is outside of all labels is none."""
        part: LabeledPart | None = None
        is_open = False
        for start, end, number in _words(text, tokens):
            prefix, label = self._labels[number]
            goes_on = part is not None and is_open and part.label == label and prefix not in _BEGINS
            if part is not None and goes_on and "\n" not in text[part.end : start]:
                part = part._replace(end=end)
            else:
                if part is not None and part.label != _OUTSIDE:
                    yield part
                part = LabeledPart(start, end, label)
            is_open = prefix not in _ENDS
        if part is not None and part.label != _OUTSIDE:
            yield part


def _words(text: str, tokens: _Tokens) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and the label's number of each word; a mark is a word of its own."""
    last: tuple[int, int, int] | None = None
    last_word: int | None = None
    for (start, end), word, label in zip(tokens.places, tokens.words, tokens.labels, strict=True):
        while start < end and text[start].isspace():
            start += 1
        if start == end:
            continue
        is_marked = _MARK.search(text, max(start - 1, 0), start + 1) is not None  # some tokenizers cut words there
        is_same = (word == last_word or is_marked) and _WITHIN_WORD.match(text, start - 1) is not None
        if last is not None and (start < last[1] or is_same):
            last = (last[0], max(end, last[1]), last[2])
        else:
            if last is not None:
                yield last
            last = (start, end, label)
        last_word = word
    if last is not None:
        yield last


def load_token_labeler(path: str, named_by: str) -> TokenLabeler:
    """Load a token-classification model from a folder of this machine, in float32.

    Args:
        path: the folder.
        named_by: the key that names it, for messages.

    Raises:
        InputError: there is no folder, or it lacks what is needed; or what is there is damaged, or cannot be used.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(f"{named_by}: {path} is no folder", _WHAT_IS_NEEDED)
    if not (folder / "config.json").is_file():
        raise InputError(f"{named_by}: the folder {path} holds no config.json", _WHAT_IS_NEEDED)
    if (folder / _ADAPTER_NAME).is_file():
        raise InputError(f"{named_by}: {path} is an adapter ({_ADAPTER_NAME}), expected a whole model", _WHAT_IS_NEEDED)
    if not any((folder / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        raise InputError(f"{named_by}: the folder {path} holds no model.safetensors", _WHAT_IS_NEEDED)
    with console.status(f"loading {path} ..."):
        return _loaded(folder, path, named_by)


def _loaded(folder: Path, path: str, named_by: str) -> TokenLabeler:
    import torch
    from transformers import AutoModelForTokenClassification

    from medqa_cli.model.checks.loaded_weights import load_whole
    from medqa_cli.model.checks.loading import loading
    from medqa_cli.model.devices import pick_device
    from medqa_cli.model.load import load_config
    from medqa_cli.model.weights import check_weight_files

    config = load_config(str(folder))
    if getattr(config, "quantization_config", None) is not None:
        raise InputError(f"{named_by}: the model in {path} is quantized, expected whole weights", _WHAT_IS_NEEDED)
    if not all(isinstance(name, str) for name in config.id2label.values()):
        raise InputError(
            f"{named_by}: id2label of {folder / 'config.json'} holds labels that are no text", _WHAT_IS_NEEDED
        )
    tokenizer = _fitting_tokenizer(folder, path, named_by, config)
    check_weight_files(folder)
    device = pick_device()
    with loading("token-classification model", path, _WHAT_IS_NEEDED):
        how = {"config": config, "dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
        model = load_whole(AutoModelForTokenClassification, folder, path, **how)
    labeler = TokenLabeler(model.requires_grad_(False).eval().to(device), tokenizer, device)
    if not labeler.is_usable:
        raise InputError(
            f"{named_by}: the model in {path} reads too few tokens at once for a sentence", _WHAT_IS_NEEDED
        )
    return labeler


def _fitting_tokenizer(folder: Path, path: str, named_by: str, config: Any) -> Any:
    """Return the tokenizer, if it tells where its tokens stand and has none that the model lacks."""
    from medqa_cli.model.load import load_tokenizer, num_embeddings

    tokenizer = load_tokenizer(str(folder))
    if not tokenizer.is_fast:
        raise InputError(
            f"{named_by}: the tokenizer in {path} does not tell where its tokens stand, expected a fast one "
            "(tokenizer.json)",
            "load it with AutoTokenizer where it can be converted, and save it with save_pretrained",
        )
    rows, highest = num_embeddings(config), max(tokenizer.get_vocab().values(), default=0)
    if rows is not None and highest >= rows:
        raise InputError(
            f"{named_by}: the tokenizer in {path} has tokens up to number {highest:,}, and the model only the first "
            f"{rows:,}",
            "take tokenizer and weights from the same model",
        )
    tokenizer.truncation_side = "right"
    return tokenizer
