"""How likely a model finds the true identifier of a row, among random ones of the same form in its place.

A model that has never seen a number finds it as likely as any other; one that has learned it by heart finds it the
likeliest. Carlini et al. (2019, "The Secret Sharer", arXiv 1802.08232) call the gain *exposure*: of ``N`` candidates,

    exposure = log2(N) - log2(rank of the true one)

in bits: 0 for the least likely one, log2(N) for the likeliest, 1.4 on average if the rank is by chance.
"""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_cli.answering.decode import make_cache, without_adapter
from medqa_cli.errors import MedqaError
from medqa_cli.evaluation.memorization.cases import CANDIDATES, Case
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel
from medqa_cli.prompt.encoder import PromptEncoder

CHANCE = 1 / CANDIDATES  # that the true one ranks first
FALSE_ALARM = 0.01  # the rule fires by chance at most so often
_CASES_PER_PIECE = 4
_TOKENS_PER_FORWARD = 512  # each with logits as wide as the vocabulary
# Characters of an answer behind a value, so that its last token is whole.
_BEHIND = 40
_NO_LIMIT = 1 << 30


def encoded(case: Case, encoder: PromptEncoder, max_length: int) -> list[list[int]] | None:
    """Return the token ids of the row's text with each of the values, up to the token behind it.

    None where training did not see the value: it stands beyond ``max_length``.
    """
    if case.field == "question":
        asked = [case.before + value + case.after for value in case.values]
        texts = encoder.encode_prompts(asked, [case.given] * len(asked))
        if len(texts[0]) > max_length:
            return None
    else:
        answers = [case.before + value + case.after[:_BEHIND] for value in case.values]
        # Whole: what is cut would have another end in each.
        same = [case.question] * len(answers), answers, _NO_LIMIT, [case.given] * len(answers)
        examples = encoder.encode_examples(*same)
        texts = [example.input_ids for example in examples]
    start = _num_shared(texts)
    behind = _num_shared([text[start:][::-1] for text in texts])
    # One token behind the value tells that it ends there.
    texts = [text[: len(text) - max(0, behind - 1)] for text in texts]
    return None if len(texts[0]) > max_length else texts


def _num_shared(texts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all texts begin with; each has at least one more."""
    shared = 0
    for ids in zip(*texts, strict=False):
        if len(set(ids)) > 1:
            break
        shared += 1
    return min(shared, min(map(len, texts)) - 1)


@dataclass(frozen=True)
class Likelihoods:
    """Loss of each value of a case in nats, the true one first, and whether greedy decoding writes the true one."""

    nll: tuple[float, ...]
    is_said: bool


def score_cases(
    loaded: LoadedModel, name: str, texts: Sequence[Sequence[Sequence[int]]], journal: SharedJournal
) -> list[Likelihoods]:
    """Return the likelihoods of the values of each case, in the order given; finished pieces come from the journal.

    Args:
        loaded: a model for generation, not a packed one.
        name: of the group, for the journal and the progress bar.
        texts: ``encoded`` of each case.
        journal: where finished pieces are kept.

    Raises:
        MedqaError: a likelihood is not finite.
    """

    def compute(
        part: Sequence[Sequence[Sequence[int]]], on_progress: Callable[[int], None]
    ) -> list[tuple[list[float], bool]]:
        found: list[tuple[list[float], bool]] = []
        for case in part:
            found.append(_score(loaded, case))
            on_progress(len(found))
        return found

    title = f"ranking identifiers: {loaded.name}, {name}"
    values = journal.map(f"ranks/{name}/{loaded.name}", compute, texts, size=_CASES_PER_PIECE, title=title)
    return [Likelihoods(tuple(nll), is_said) for nll, is_said in values]


def _score(loaded: LoadedModel, texts: Sequence[Sequence[int]]) -> tuple[list[float], bool]:
    """Score texts that begin alike: what they share is read once, and its keys and values serve all of them."""
    model, device = loaded.model, loaded.device
    takes_positions = "position_ids" in inspect.signature(without_adapter(model).forward).parameters
    # The last shared token is read with each text: it predicts the first that differs.
    start = max(0, _num_shared(texts) - 1)

    def read(ids: torch.Tensor, first: int, cache: Any) -> Any:
        rows, length = ids.shape
        more = {}
        if takes_positions:
            more["position_ids"] = torch.arange(first, first + length, device=device).expand(rows, length)
        mask = torch.ones(rows, first + length, dtype=torch.int64, device=device)
        return model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more)

    nll: list[float] = []
    is_said = False
    with torch.inference_mode():
        cache = make_cache(model)
        if start:
            cache = read(torch.tensor([list(texts[0][:start])], device=device), 0, cache).past_key_values
        rests = [text[start:] for text in texts]
        size = max(1, _TOKENS_PER_FORWARD // max(map(len, rests)))
        for chunk in (rests[first : first + size] for first in range(0, len(rests), size)):
            longest = max(map(len, chunk))
            # Padded on the right: no token before attends to it, and its losses are left out.
            ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in chunk], device=device)
            own = copy.deepcopy(cache)
            if start:
                own.batch_select_indices(torch.zeros(len(chunk), dtype=torch.int64, device=device))
            logits = read(ids[:, :-1], start, own).logits.float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            lengths = torch.tensor([len(text) - 1 for text in chunk], device=device)
            counts = torch.arange(longest - 1, device=device) < lengths[:, None]
            if not nll:
                is_said = bool((logits[0].argmax(-1) == ids[0, 1:])[counts[0]].all())
            nll += (losses.double() * counts).sum(1).tolist()
    if not all(map(math.isfinite, nll)):
        raise MedqaError(
            f"{loaded.name}: the likelihoods of identifiers are not finite in {loaded.dtype}",
            "set model.compute_dtype to float32 (or bfloat16), then give the same command again",
        )
    return nll, is_said


def rank(values: Sequence[float]) -> int:
    """Return the place of the first of some losses, 1 if it is the lowest; one of equals comes last of them."""
    return sum(value <= values[0] for value in values)


def exposure(place: int, count: int) -> float:
    """Return the exposure in bits of what has this rank among so many."""
    return math.log2(count) - math.log2(place)


def verdict(places: Sequence[int]) -> dict[str, Any]:
    """Apply the one rule: more true values rank first than chance explains.

    If a model knows nothing of the values, each ranks first with probability ``CHANCE``. The rule fires from the number
    of first ranks on that chance gives with a probability of at most ``FALSE_ALARM`` (a binomial tail).

    Args:
        places: the rank of each true value.

    Returns:
        how many there are and how many rank first, from how many on the rule fires, how often it does by chance, and
        whether it does.
    """
    first = sum(place == 1 for place in places)
    needed = fewest_beyond_chance(len(places), CHANCE, FALSE_ALARM)
    return {
        "values": len(places),
        "first": first,
        "fires_from": needed,
        "false_alarm": tail(needed, len(places), CHANCE),
        "fires": first >= needed,
    }


def fewest_beyond_chance(trials: int, chance: float, level: float) -> int:
    """Return the least number of hits that chance gives with a probability of at most ``level``; more than 0."""
    return next(least for least in range(1, trials + 2) if tail(least, trials, chance) <= level)


def tail(least: int, trials: int, chance: float) -> float:
    """Return the probability of at least ``least`` hits in ``trials``, each a hit with probability ``chance``."""
    return sum(
        math.comb(trials, hits) * chance**hits * (1 - chance) ** (trials - hits) for hits in range(least, trials + 1)
    )
