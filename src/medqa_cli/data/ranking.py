"""How near a passage is to a question: what both are about, weighed by how rare its words are, and what both ask.

A title is compared by its topic alone where it is a question of a known form: of "What causes heart failure?" the words
"heart failure". What a question asks is its form too, and in free words those that ``question_words.yaml`` lists.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from medqa_cli.data.languages import latin_languages, likeliest_language
from medqa_cli.data.topics.question_types import OTHER, QuestionType, recognize
from medqa_cli.data.vocabulary import Vocabulary
from medqa_cli.resources import load_yaml

# Weights set on MedQuAD's validation split; docs/experiments.md, 2026-12-01, has the figures.
MISSING = 0.5  # what a word of the title costs that the question lacks
SAME_KIND = 0.5  # what asking the same adds to the words that both share
PLAIN = 0.5  # words that tell what is asked, at which "what is it" is as likely as what they tell
LIKELY = 0.6  # from which a kind is what is asked: one word tells it, and none tells another
IN_TEXT = 0.05  # what a word counts that only the text of a row has
IN_DOCUMENT = 0.5  # what a word counts that only the text of a document has
# A close passage holds this share of the question's words, each weighed by its rarity, ...
CLOSE = 0.75
# ... or the question names its title to this share, and has not much more words that are rare: the title is this share
# of the topic, where the question's form tells its topic, or of all its words.
NAMED = 0.9
NAMED_OF_TOPIC = 0.5
NAMED_OF_QUESTION = 0.13
_MOST_WORDS_OF_A_NAME = 4  # "What is different in the genome of somebody with gout" is no name
_WORD = re.compile(r"(?!(?<=['’])s\b)\b\w+")  # no possessive
_ADDRESSED = frozenset(re.findall(r"\w+", "sie ihnen ihr ihre ihren ihrem ihrer ihres was wie wann wo wer"))
# Languages that write "gout attack" as one word.
_COMPOUNDING = frozenset(("da", "de", "fi", "hu", "nl", "no", "sv"))
STOP_WORDS = frozenset(
    _WORD.findall(
        "a about after all also an and any are as at be been but by can could do does for from give had has have how "
        "i if in into is it its may me more most much my no not of often on one or other our out she should so some "
        "such than that the their them there these they this to up used was we were what when where which who why "
        "will with would you your"
    )
)


@functools.cache
def _small_words(code: str) -> frozenset[str]:
    """Return the words of a language that carry no meaning, with the English ones."""
    language = latin_languages().get(code)
    return STOP_WORDS if language is None or code == "en" else STOP_WORDS | language.words


def german_nouns(text: str) -> list[str]:
    """Return the nouns of a German text, in lower case: what it writes with a capital, but for addressing the reader.

    The first word of a question is none ("Hilft ..."): it has its capital from its place.
    """
    words = _WORD.findall(text)[text.rstrip().endswith("?") :]
    return [word.lower() for word in dict.fromkeys(words) if word[0].isupper() and word.lower() not in _ADDRESSED]


def all_words(text: str) -> list[str]:
    """Return the words of a text in lower case, each once, in their order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry its meaning, in lower case, each once, in their order."""
    return [word for word in all_words(text) if word not in STOP_WORDS and len(word) > 1]


def naming_words(text: str, small: Set[str] = STOP_WORDS) -> list[str]:
    """Return ``content_words`` with numbers and single letters: "type 1", "hepatitis B"; ``small``: those left out."""
    return [word for word in all_words(text) if word not in small]


@functools.cache
def _kinds_of_words() -> dict[str, frozenset[str]]:
    kinds: dict[str, set[str]] = {}
    for kind, words in load_yaml("question_words").items():
        for word in words.split():
            kinds.setdefault(word, set()).add(kind)
    return {word: frozenset(names) for word, names in kinds.items()}


@functools.lru_cache(maxsize=1 << 14)
def form_of(title: str) -> QuestionType | None:
    """Return the kind and topic of a passage's title; None where it is no question of a known form."""
    return recognize(title)


@dataclass(frozen=True)
class Likeness:
    """How near one passage is to a question, in weights of words.

    ``named``: stems of the title's words; ``title``: their weight; ``shared``: of those that the question has as well;
    ``held``: of the words that the question is about, those that title or text have; ``score``: orders passages.
    """

    named: frozenset[str]
    title: float
    shared: float
    held: float
    score: float


class Asked:
    """A question, ready to be compared with passages.

    Args:
        words: of the question, in lower case, in their order.
        form: its kind and topic where its form tells.
        vocabulary: stems words and weighs stems.
        text: the question as it was typed; empty: only its words are known.
    """

    def __init__(self, words: Sequence[str], form: QuestionType | None, vocabulary: Vocabulary, text: str = "") -> None:
        language = likeliest_language(text or " ".join(words))
        self._small = _small_words(language)
        if language in _COMPOUNDING:
            words = [part for word in words for part in vocabulary.parts(word)]
        if form and form.kind == "information" and len(naming_words(form.topic)) > _MOST_WORDS_OF_A_NAME:
            form = None
        self._kind = None if form is None or form.kind == OTHER else form.kind
        self._vocabulary = vocabulary
        stems = {word: vocabulary.stem(word) for word in words}
        # Of each stem that names something one word that has it.
        self.words = {stem: word for word, stem in stems.items() if word not in self._small}
        self._hints = {stem: kinds for word, stem in stems.items() if (kinds := _kinds_of_words().get(word))}
        self._about = vocabulary.stems(naming_words(form.topic)) if form else self.words.keys() - self._hints.keys()
        # The verbs and small words around German nouns say little, and a small index has seen few of them.
        nouns = german_nouns(text) if language == "de" and form is None else []
        self._by_nouns = bool(nouns)
        if nouns:
            self._about = vocabulary.stems([part for noun in nouns for part in vocabulary.parts(noun)])
        self._weight = vocabulary.weight(self._about)
        self._least_named = self._weight * (NAMED_OF_TOPIC if form else NAMED_OF_QUESTION)

    def by_title(self, title: str) -> Likeness:
        """Compare with a passage's title."""
        form = form_of(title)
        words = naming_words(form.topic if form else title, self._small)
        if form is None and self._by_nouns:
            words = german_nouns(title) or words
        words = words if form else [word for word in words if word not in _kinds_of_words()]
        named = frozenset(self._vocabulary.stems(words))
        shared = self._vocabulary.weight(named & self.words.keys())
        missing = self._vocabulary.weight(named - self.words.keys())
        kind = self._same_kind(form.kind, named) if form else 0.0
        score = shared * (1 + SAME_KIND * kind) - MISSING * missing
        held = self._vocabulary.weight(named & self._about)
        return Likeness(named, shared + missing, shared, held, score)

    def with_text(self, likeness: Likeness, passage_text: str, is_document: bool) -> Likeness:
        """Compare with a passage's text as well; that of a document says more than its title."""
        others = self.words.keys() & self._vocabulary.stems(all_words(passage_text)) - likeness.named
        in_text = self._vocabulary.weight(others)
        score = likeness.shared + IN_DOCUMENT * in_text if is_document else likeness.score + IN_TEXT * in_text
        return replace(likeness, held=self._vocabulary.weight((others | likeness.named) & self._about), score=score)

    def is_close(self, likeness: Likeness) -> bool:
        """Tell whether a passage is near enough to say something about the question."""
        return self._is_named(likeness) or likeness.held >= CLOSE * self._weight > 0

    def _is_named(self, likeness: Likeness) -> bool:
        return likeness.shared >= max(NAMED * likeness.title, self._least_named) > 0

    def is_answered_by(self, title: str) -> bool | None:
        """Tell whether a row of this title answers.

        True: it asks the same about the same; False: it asks what this question cannot ask, or names what it does not
        name; None: the title is no question of a known form, or the question may ask something else too.
        """
        form = form_of(title)
        if form is None:
            return None
        likeness = self.by_title(title)
        kind = self._same_kind(form.kind, likeness.named)
        if kind == 0 or not likeness.shared >= NAMED * likeness.title > 0:
            return False
        return True if kind >= LIKELY and self._is_named(likeness) else None

    def _same_kind(self, kind: str, named: frozenset[str]) -> float:
        """Tell by 0 to 1 whether the question asks a kind, from the words that are not what it is about."""
        if self._kind is not None:
            return float(kind == self._kind)
        hints = [kinds for stem, kinds in self._hints.items() if stem not in named]
        score = sum((kind in kinds) / len(kinds) for kinds in hints)
        return (score + (PLAIN if kind == "information" else 0.0)) / (len(hints) + PLAIN)
