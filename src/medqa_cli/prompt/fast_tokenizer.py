"""A tokenizer from its ``tokenizer.json`` alone, for prompts whose contract is made: Transformers takes two seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError, first_line

TOKENIZER_FILE_NAME = "tokenizer.json"


class FastTokenizer:
    """The part of a Transformers tokenizer that ``PromptEncoder`` uses.

    Args:
        path: the file as Transformers' own tokenizer object writes it.

    Raises:
        InputError: it is missing or damaged.
    """

    # Of the contract, which is made.
    bos_token: str | None = None
    bos_token_id: int | None = None
    eos_token: str | None = None
    eos_token_id: int | None = None
    chat_template: Any = None
    is_fast = True

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # its errors have no class of their own
            raise InputError(f"cannot load the tokenizer in {path}: {first_line(error)}", "write it again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.added_tokens_decoder: Mapping[int, Any] = self._tokenizer.get_added_tokens_decoder()

    def __len__(self) -> int:
        """Return the number of token ids, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(
        self,
        text: Any,
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
        return_offsets_mapping: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Encode one text or a list of texts."""
        self._tokenizer.encode_special_tokens = split_special_tokens
        texts = [text] if isinstance(text, str) else list(text)
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
        found: dict[str, Any] = {"input_ids": [one.ids for one in encoded]}
        if return_offsets_mapping:
            found["offset_mapping"] = [one.offsets for one in encoded]
        return {key: values[0] for key, values in found.items()} if isinstance(text, str) else found

    @property
    def special_tokens_map(self) -> Mapping[str, Any]:
        """None: a contract that is made needs none."""
        return {}

    def get_chat_template(self) -> str:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError("this tokenizer has no chat template")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False, **_: Any) -> str:
        """Turn token ids into text; spaces are not cleaned up."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))
