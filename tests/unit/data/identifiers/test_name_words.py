"""Words that are names in many languages, and words of medicine and of greetings that are none."""

import pytest

from medqa_cli.data.identifiers.finding import find_in_row


def names(text: str) -> list[str]:
    return [text[find.start : find.end] for find in find_in_row(text, "") if find.kind == "name"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("we took ayokunle to the clinic and they sent us home", "ayokunle"),
        ("my sister shared a room with Olgica R. Petrovski in rehab", "Olgica R. Petrovski"),
        ("Is it normal? Thandiwe was born early and my milk is late.", "Thandiwe"),
        ("Namaste Vikrant ji, my sugar is high again.", "Vikrant"),
        ("My file says Konrad Malinowski, that is not me.", "Konrad Malinowski"),
    ],
)
def test_a_name_of_another_country_is_found_whole(text: str, name: str) -> None:
    assert name in names(text)


@pytest.mark.parametrize(
    "text",
    [
        "My endo wrote ticagrelor and apixaban on my MyChart, is dextromethorphan ok?",
        "My notes say NKDA, PCOS and GERD; lap chole in May. Recheck my Hb.",
        "doctor, i have hairfall since dengue, kindly advise me",
        "I read the line on macular holes and my eye is red.",
        "G'day, namaste and hello, my back hurts again.",
    ],
)
def test_words_of_medicine_and_of_greetings_are_no_names(text: str) -> None:
    assert names(text) == []
