"""One question, one answer, streamed as it is made, with the reason why it ended.

Does not load models (``models``) and does not judge answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_cli.answering.models import Answerer
from medqa_cli.config.sections import GenerateConfig
from medqa_cli.errors import InputError

NOTICE = (
    "This answer was written by a language model and may be wrong. It is not medical advice: ask a clinician. "
    "In an emergency call your local emergency number."
)


@dataclass(frozen=True)
class Answer:
    """An answer and how it ended: ``stop`` at the end token, ``length`` at ``max_new_tokens``."""

    question: str
    text: str
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether the model ended the answer by itself."""
        return self.finish_reason == "stop"


class _TextStream:
    """Hands finished pieces of text on while token ids come in; waits with ids that do not form whole characters."""

    def __init__(
        self, decode: Callable[[Sequence[int]], str], write: Callable[[str], None], stop_ids: set[int]
    ) -> None:
        self._decode = decode
        self._write = write
        self._stop_ids = stop_ids
        self._ids: list[int] = []
        self._shown = 0
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Take the next token; the first call carries the prompt."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self._ids += [i for i in value.reshape(-1).tolist() if i not in self._stop_ids]
        text = self._decode(self._ids)
        # U+FFFD at the end: the last character is not complete yet. Trailing space: the decoder strips it at the end.
        if not text.endswith("\ufffd"):
            self._write(text[self._shown :])
            self._shown = len(text)

    def end(self) -> None:
        """Write what is left."""
        self._write(self._decode(self._ids)[self._shown :])


def answer_question(
    answerer: Answerer, question: str, config: GenerateConfig, *, write: Callable[[str], None] | None = None
) -> Answer:
    """Answer one question.

    Args:
        answerer: model and prompt contract.
        question: plain text; control tokens in it stay text.
        config: decoding.
        write: gets pieces of the answer as they are made; None: no streaming.

    Raises:
        InputError: the question is empty, or prompt and answer cannot fit the model's context.
    """
    question = " ".join(question.split())
    if not question:
        raise InputError("the question is empty", 'ask like this: medqa ask "How to treat glaucoma?"')
    prompt_ids = answerer.encoder.encode_prompt(question)
    max_new_tokens = _room(answerer, len(prompt_ids), config.max_new_tokens)
    contract = answerer.encoder.contract
    stream = None
    if write is not None:
        stream = _TextStream(answerer.encoder.decode_answer, write, set(contract.stop_token_ids))
    started = time.perf_counter()
    input_ids = torch.tensor([prompt_ids], device=answerer.device)  # (1, T)
    with torch.inference_mode():
        output = answerer.model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=_generation_config(config, max_new_tokens, contract.stop_token_ids),
            streamer=stream,
        )
    new_ids = output[0, len(prompt_ids) :].tolist()
    stopped = bool(new_ids) and new_ids[-1] in contract.stop_token_ids
    return Answer(
        question=question,
        text=answerer.encoder.decode_answer(new_ids),
        finish_reason="stop" if stopped else "length",
        prompt_tokens=len(prompt_ids),
        answer_tokens=len(new_ids) - stopped,
        seconds=time.perf_counter() - started,
    )


def as_json(answer: Answer, answerer: Answerer) -> dict[str, Any]:
    """Return the object that ``ask --json`` prints (design, section 5)."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "complete": answer.complete,
        "prompt_tokens": answer.prompt_tokens,
        "answer_tokens": answer.answer_tokens,
        "seconds": round(answer.seconds, 3),
        "model": {"name": answerer.name, "base": answerer.base, "template": answerer.encoder.contract.text.template},
        "notices": [NOTICE],
        "sources": [],
    }


def _room(answerer: Answerer, prompt_tokens: int, max_new_tokens: int) -> int:
    context = getattr(answerer.model.config, "max_position_embeddings", None) or prompt_tokens + max_new_tokens
    if prompt_tokens >= context:
        raise InputError(
            f"the question makes a prompt of {prompt_tokens} tokens, but the model's context is {context} tokens",
            "ask a shorter question",
        )
    return min(max_new_tokens, int(context) - prompt_tokens)


def _generation_config(config: GenerateConfig, max_new_tokens: int, stop_ids: Sequence[int]) -> Any:
    from transformers import GenerationConfig

    # top_k=0: Transformers' default of 50 would cut the distribution that temperature and top_p describe.
    sampling = {"temperature": config.temperature, "top_p": config.top_p, "top_k": 0} if config.temperature > 0 else {}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=config.temperature > 0,
        repetition_penalty=config.repetition_penalty,
        no_repeat_ngram_size=config.no_repeat_ngram_size,
        eos_token_id=list(stop_ids),
        pad_token_id=stop_ids[0],
        use_cache=True,
        **sampling,
    )
