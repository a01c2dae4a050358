"""Questions that look like one of the data and that none of its rows asks: for the reviewed answers of ``ask``.

Each is made by a rule from the question of a row: another number, a group of people, a negation, another letter in a
name, another kind of question, a word more or less, another eponym. A question whose topic some row has, in any order
of words, is left out.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from medqa_cli.data.topics.medical_terms import comparable_name
from medqa_cli.data.topics.question_types import QuestionType, recognize
from medqa_cli.data.topics.topics import first_synonyms, topic_names

FORMS = {
    "information": "What is {}?",
    "symptoms": "What are the symptoms of {}?",
    "treatment": "What are the treatments for {}?",
    "causes": "What causes {}?",
    "exams and tests": "How to diagnose {}?",
    "inheritance": "Is {} inherited?",
    "frequency": "How many people are affected by {}?",
    "outlook": "What is the outlook for {}?",
    "susceptibility": "Who is at risk for {}?",
    "prevention": "How to prevent {}?",
    "genetic changes": "What are the genetic changes related to {}?",
    "complications": "What are the complications of {}?",
    "stages": "What are the stages of {}?",
}
NEGATED = {
    "symptoms": "What are not symptoms of {}?",
    "treatment": "What are no treatments for {}?",
    "causes": "What does not cause {}?",
    "inheritance": "Is {} never inherited?",
    "prevention": "How not to prevent {}?",
    "information": "What is not {}?",
    "exams and tests": "How is {} not diagnosed?",
    "frequency": "How many people are never affected by {}?",
}
BESIDE = (
    "What are the side effects of the treatments for {}?",
    "How much does the treatment of {} cost?",
    "When should {} not be treated at home?",
    "What are the symptoms and treatments of {}?",
    "Which diseases have the symptoms of {}?",
    "Can {} cause cancer?",
    "What does {} cause?",
    "How is {} treated in animals?",
    "What is the history of {}?",
    "Who discovered {}?",
)
PEOPLE = ("children", "adults", "pregnancy", "older men", "women", "newborns")
WORDS = ("right", "acute", "familial", "juvenile", "secondary", "nocturnal", "atypical", "drug-induced")
_NUMBER = re.compile(r"\b(?:\d+|I{1,3}|IV|V)(?=[A-Z]?\b)")
_OTHER_NUMBER = {"I": "II", "II": "III", "III": "IV", "IV": "II", "V": "IV"}
_EPONYM = re.compile(r"\A([A-Z][a-zöéüä]+)((?:'s)? (?:[Dd]isease|[Ss]yndrome))\Z")


class LookAlikes:
    """Makes questions that no row asks.

    Args:
        questions: of all rows.
        seed: of the draws.
    """

    def __init__(self, questions: Iterable[str], seed: int) -> None:
        self._draw = random.Random(seed)
        self._kinds: dict[str, set[str]] = defaultdict(set)
        self._word_sets: set[frozenset[str]] = set()
        self._words: set[str] = set()
        self._eponyms: list[str] = []
        for question in questions:
            form = recognize(question)
            if form is None:
                continue
            for name in _names(form.topic):
                self._kinds[name].add(form.kind)
                self._word_sets.add(frozenset(name.split()))
                self._words |= set(name.split())
            if match := _EPONYM.match(form.topic):
                self._eponyms.append(match[1])
        self._rules: dict[str, Callable[[QuestionType], Iterator[str]]] = {
            "another number": self._another_number,
            "of some people": self._of_some_people,
            "negated": self._negated,
            "one letter": self._one_letter,
            "another kind": self._another_kind,
            "asked beside it": self._beside,
            "a word more": self._a_word_more,
            "a word less": self._a_word_less,
            "another eponym": self._another_eponym,
        }

    def of(self, question: str) -> dict[str, str]:
        """Return at most one look-alike of a question by each rule."""
        form = recognize(question)
        if form is None or form.kind not in FORMS:
            return {}
        made = {name: next(rule(form), None) for name, rule in self._rules.items()}
        return {name: text for name, text in made.items() if text is not None}

    def _with_topic(self, form: QuestionType, topic: str) -> Iterator[str]:
        """Yield the question about another topic, if no row is about it."""
        if not any(frozenset(name.split()) in self._word_sets for name in _names(topic)):
            yield FORMS[form.kind].format(topic)

    def _another_number(self, form: QuestionType) -> Iterator[str]:
        if match := _NUMBER.search(form.topic):
            other = _OTHER_NUMBER.get(match[0]) or str(int(match[0]) + 1)
            yield from self._with_topic(form, form.topic[: match.start()] + other + form.topic[match.end() :])
            yield from self._with_topic(form, form.topic[: match.start()] + "47" + form.topic[match.end() :])

    def _of_some_people(self, form: QuestionType) -> Iterator[str]:
        people = self._draw.choice(PEOPLE)
        if people[:5].lower() not in form.topic.lower():  # "adult leukemia in adults" is "adult leukemia"
            yield from self._with_topic(form, f"{form.topic} in {people}")

    def _negated(self, form: QuestionType) -> Iterator[str]:
        if form.kind in NEGATED:
            yield NEGATED[form.kind].format(form.topic)

    def _one_letter(self, form: QuestionType) -> Iterator[str]:
        word = max(re.findall(r"[A-Za-z]+", form.topic) or [""], key=len)
        if len(word) > 4:
            place = self._draw.randrange(1, len(word) - 1)
            letter = self._draw.choice([one for one in "aeioumnrt" if one != word[place].lower()])
            other = word[:place] + letter + word[place + 1 :]
            if comparable_name(other) not in self._words:
                yield from self._with_topic(form, form.topic.replace(word, other))

    def _another_kind(self, form: QuestionType) -> Iterator[str]:
        known = set().union(*(self._kinds[name] for name in _names(form.topic)))
        if others := sorted(FORMS.keys() - known):
            yield FORMS[self._draw.choice(others)].format(form.topic)

    def _beside(self, form: QuestionType) -> Iterator[str]:
        yield self._draw.choice(BESIDE).format(form.topic)

    def _a_word_more(self, form: QuestionType) -> Iterator[str]:
        yield from self._with_topic(form, f"{self._draw.choice(WORDS)} {form.topic}")

    def _a_word_less(self, form: QuestionType) -> Iterator[str]:
        words = form.topic.split()
        places = [place for place, word in enumerate(words) if len(word) > 3]  # "of" and "and" make no other topic
        if len(words) > 2 and places:
            del words[self._draw.choice(places)]
            yield from self._with_topic(form, " ".join(words))

    def _another_eponym(self, form: QuestionType) -> Iterator[str]:
        if match := _EPONYM.match(form.topic):
            yield from self._with_topic(form, self._draw.choice(self._eponyms) + match[2])


def _names(topic: str) -> set[str]:
    plain = comparable_name(topic)
    return {plain, first_synonyms().get(plain, plain), *topic_names(topic)}
