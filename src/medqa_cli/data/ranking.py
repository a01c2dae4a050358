"""How near a passage is to a question: what both are about, weighed by how rare its words are, and what both ask.

A title is compared by its topic alone where it is a question of a known form: of "What causes heart failure?" the words
"heart failure". What a question asks is its form too, and in free words those that ``question_words.yaml`` lists for
its language. Words of another language than English count only where passages are in it.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from medqa_cli.data.languages import language_of, latin_languages, likeliest_language
from medqa_cli.data.normalize import without_accents
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
SMALL = "small"  # the table of words that say nothing, in question_words.yaml
_WORD = re.compile(r"(?!(?<=['’])s\b)\b\w+")  # no possessive
_MEASURED = re.compile(r"\d\d+")  # a blood pressure of 190
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


@dataclass(frozen=True)
class LanguageWords:
    """What single words of a language say.

    ``small``: those that carry no meaning, beside ``STOP_WORDS``; ``kinds``: what words tell to be asked;
    ``is_folded``: whether both are without accents, so that they are known however they are typed.
    """

    small: frozenset[str]
    kinds: Mapping[str, frozenset[str]]
    is_folded: bool

    def is_small(self, word: str) -> bool:
        """Tell whether a word in lower case carries no meaning."""
        return word in STOP_WORDS or self._key(word) in self.small

    def naming(self, words: Iterable[str]) -> list[str]:
        """Return those of words in lower case that carry meaning and do not tell what is asked."""
        if self.is_folded:
            return [word for word in words if not self.is_small(word) and not self.kinds_of(word)]
        small, kinds = self.small, self.kinds
        return [word for word in words if word not in STOP_WORDS and word not in small and word not in kinds]

    def is_of_its_own(self, word: str) -> bool:
        """Tell whether a word in lower case is one that the language's own lists hold."""
        return self._key(word) in self.small or (self.is_folded and self._key(word) in self.kinds)

    def kinds_of(self, word: str) -> frozenset[str]:
        """Return the kinds of questions that a word in lower case tells."""
        return self.kinds.get(self._key(word), frozenset())

    def _key(self, word: str) -> str:
        return without_accents(word) if self.is_folded else word


@functools.cache
def words_of(language: str, *, with_table: bool = True) -> LanguageWords:
    """Return the words of a language by its ISO 639-1 code; the English ones for one that is not known.

    Args:
        language: the code.
        with_table: whether the language's table in ``question_words.yaml`` is read, if it has one.
    """
    tables = load_yaml("question_words")
    is_folded = with_table and language in tables and language != "en"
    kinds: dict[str, set[str]] = {}
    for kind, words in tables[language if is_folded else "en"].items():
        for word in words.split() if kind != SMALL else ():
            kinds.setdefault(word, set()).add(kind)
    latin = latin_languages()
    small = latin[language].words if language in latin and language != "en" else frozenset()
    if is_folded:
        # A word that tells what is asked is looked for.
        small = frozenset([*map(without_accents, small), *tables[language][SMALL].split()]).difference(kinds)
    return LanguageWords(small, {word: frozenset(names) for word, names in kinds.items()}, is_folded)


def language_of_question(text: str, held: Sequence[str]) -> str:
    """Tell the language of a question; ``held``: those of the passages, the commonest first.

    A question is short and often typed without accents: where the passages are not in English, it is taken to be in
    their language, unless it is English.
    """
    told = likeliest_language(text)
    if not held or held[0] == "en" or told in held:
        return told
    if language_of(text) != "en":
        return held[0]
    # "me" and "come" are Spanish, too.
    words, english, theirs = all_words(text), latin_languages()["en"].words | STOP_WORDS, words_of(held[0])
    num_english = sum(word in english for word in words)
    return "en" if num_english > sum(theirs.is_of_its_own(word) for word in words) else held[0]


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


def naming_words(text: str) -> list[str]:
    """Return ``content_words`` with numbers and single letters: "type 1", "hepatitis B"."""
    return [word for word in all_words(text) if word not in STOP_WORDS]


@functools.lru_cache(maxsize=1 << 14)
def form_of(title: str) -> QuestionType | None:
    """Return the kind and topic of a passage's title; None where it is no question of a known form."""
    return recognize(title)


@dataclass(frozen=True)
class Likeness:
    """How near one passage is to a question, in weights of words.

    ``named``: stems of the title's words; ``title``: their weight; ``shared``: of those that the question has as well;
    ``held``: stems of the words that the question is about which title or text have; ``score``: orders passages.
    """

    named: frozenset[str]
    title: float
    shared: float
    held: frozenset[str]
    score: float


class Query:
    """A question, ready to be compared with passages.

    Args:
        words: the words of the question, in lower case, in their order.
        form: the kind and topic of the question where its form tells them.
        vocabulary: what stems words and weighs stems.
        text: the question as it was typed, or nothing where only its words are known.
    """

    def __init__(self, words: Sequence[str], form: QuestionType | None, vocabulary: Vocabulary, text: str = "") -> None:
        held = vocabulary.languages
        language = language_of_question(text or " ".join(words), held)
        self._is_language_held = language in held
        self._language_words = words_of(language, with_table=self._is_language_held)
        if language in _COMPOUNDING:
            words = [part for word in words for part in vocabulary.parts(word)]
        if form and form.kind == "information" and len(naming_words(form.topic)) > _MOST_WORDS_OF_A_NAME:
            form = None
        self._kind = None if form is None or form.kind == OTHER else form.kind
        self._vocabulary = vocabulary
        stems = {word: vocabulary.stem(word) for word in words}
        # Of each stem that names something one word that has it.
        self.words = {stem: word for word, stem in stems.items() if not self.is_small(word)}
        self._hints = {stem: kinds for word, stem in stems.items() if (kinds := self._language_words.kinds_of(word))}
        # The verbs and small words around German nouns say little, and a small index has seen few of them.
        nouns = self._language_words.naming(german_nouns(text)) if language == "de" and form is None else []
        self._by_nouns = bool(nouns)
        about = self._stems_of_topic(form, nouns)
        is_folded = self._language_words.is_folded
        self._about = frozenset(stem for stem in about if not (is_folded and _MEASURED.fullmatch(stem)))
        self._weight = vocabulary.weight(self._about)
        self._least_named = self._weight * (NAMED_OF_TOPIC if form else NAMED_OF_QUESTION)

    def _stems_of_topic(self, form: QuestionType | None, nouns: Sequence[str]) -> Set[str]:
        """Return the stems of what the question is about.

        They are those of its topic where its form tells it, else of its nouns where they are known, else of all words
        that do not tell what is asked.
        """
        if form:
            return self._vocabulary.stems(naming_words(form.topic))
        if not nouns:
            return self.words.keys() - self._hints.keys()
        of_nouns = self._vocabulary.stems([part for noun in nouns for part in self._vocabulary.parts(noun)])
        return of_nouns - self._hints.keys() or of_nouns

    def is_small(self, word: str) -> bool:
        """Tell whether a word in lower case carries no meaning in the question's language."""
        return self._language_words.is_small(word)

    def is_in_nearly_all(self, word: str) -> bool:
        """Tell whether nearly all passages hold a word, such as "what", as it is small in their language."""
        return word in STOP_WORDS or (self._is_language_held and self.is_small(word))

    def by_title(self, title: str) -> Likeness:
        """Compare with a passage's title."""
        form = form_of(title)
        if form:
            words = [word for word in all_words(form.topic) if not self.is_small(word)]
        else:
            nouns = german_nouns(title) if self._by_nouns else []
            words = self._language_words.naming(nouns or all_words(title))
        named = frozenset(self._vocabulary.stems(words))
        shared = self._vocabulary.weight(named & self.words.keys())
        missing = self._vocabulary.weight(named - self.words.keys())
        kind = self._same_kind(form.kind, named) if form else 0.0
        score = shared * (1 + SAME_KIND * kind) - MISSING * missing
        return Likeness(named, shared + missing, shared, named & self._about, score)

    def with_text(self, likeness: Likeness, passage_text: str, is_document: bool) -> Likeness:
        """Compare with a passage's text as well; that of a document says more than its title."""
        others = self.words.keys() & self._vocabulary.stems(all_words(passage_text)) - likeness.named
        in_text = self._vocabulary.weight(others)
        score = likeness.shared + IN_DOCUMENT * in_text if is_document else likeness.score + IN_TEXT * in_text
        return replace(likeness, held=self._about & (others | likeness.named), score=score)

    def with_neighbors(self, likeness: Likeness, neighbors: Iterable[Likeness]) -> Likeness:
        """Count to a document's passage what those beside it hold: below "Salt" a leaflet names the illness no more.

        Not in English, whose weights were set without.
        """
        if not self._language_words.is_folded or not likeness.held:
            return likeness
        held = (stem for neighbor in neighbors for stem in neighbor.held)
        return replace(likeness, held=likeness.held.union(held))

    def is_close(self, likeness: Likeness) -> bool:
        """Tell whether a passage is near enough to say something about the question."""
        return self._is_named(likeness) or self._vocabulary.weight(likeness.held) >= CLOSE * self._weight > 0

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
