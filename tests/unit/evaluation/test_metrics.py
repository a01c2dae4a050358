"""Metrics of one answer: the words of a topic, and answers that begin with their question."""

import json

from medqa_cli.evaluation.metrics import echoes_question, topic_words
from medqa_cli.evaluation.overlap import stemmed_words


def test_topic_words_leave_out_what_stands_in_every_text() -> None:
    assert topic_words("diseases of the nerve") == set(stemmed_words("disease nerve"))
    assert topic_words("Who") == {"who"}
    assert topic_words("") == set()


def test_an_echo_of_the_question_is_found() -> None:
    assert echoes_question("What is Gout?", "What is gout? Gout is a kind of arthritis.")
    assert echoes_question("What is Gout?", "what is gout")
    assert echoes_question("How to treat gout?", "What are the treatments for gout? Rest and medicines.")
    assert not echoes_question("What is Gout?", "Gout is a kind of arthritis. What is gout?")
    assert not echoes_question("What is Gout?", json.dumps(""))
