"""Which parts of a text identify a person, by kind, and what only looks like it."""

from __future__ import annotations

import itertools
import time

import pytest

from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import KINDS


def found(question: str, answer: str = "") -> list[tuple[str, str]]:
    texts = {"question": question, "answer": answer}
    return [(find.kind, texts[find.field][find.start : find.end]) for find in find_in_row(question, answer)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("My name is Sean O'Brien and I cough.", "name", "Sean O'Brien"),
        ("my name is zofia kowalczyk and i cough", "name", "zofia kowalczyk"),
        ("I saw Dr. J. P. van der Berg about it.", "name", "J. P. van der Berg"),
        ("mrs kowalczyk has a fever", "name", "kowalczyk"),
        ("Mr. Parkinson fell at home.", "name", "Parkinson"),
        ("My daughter Mary-Kate has a rash.", "name", "Mary-Kate"),
        ("Thanks for your help, Priyanka", "name", "Priyanka"),
        ("PATIENT NAME: JOHN DOE CHIEF COMPLAINT: COUGH", "name", "JOHN DOE"),
        ("Patient: Doe, Jane", "name", "Doe, Jane"),
        ("Nadia Rahman, LCSW, listens well.", "name", "Nadia Rahman"),
        ("Susan Miller was admitted.", "name", "Susan Miller"),
        ("Ich heiße Jörg Müller.", "name", "Jörg Müller"),
        ("Je m'appelle Élodie Lefèvre.", "name", "Élodie Lefèvre"),
        ("I was born on 3/4/85.", "date", "3/4/85"),
        ("DOB: 1985-03-04", "date", "1985-03-04"),
        ("My surgery was on March 3rd, 2019.", "date", "March 3rd, 2019"),
        (
            "I was discharged on the twenty-third of may nineteen ninety-nine.",
            "date",
            "the twenty-third of may nineteen ninety-nine",
        ),
        ("Ich bin am 3. März 1987 geboren, me and my wife.", "date", "3. März 1987"),
        ("my appointment is on 14 sept 2021", "date", "14 sept 2021"),
        ("My grandmother is 94 years old.", "age", "94"),
        ("A ninety-two-year-old man fell.", "age", "ninety-two"),
        ("Call me at (617) 555-0142.", "phone", "(617) 555-0142"),
        ("my number is 617 555 0142", "phone", "617 555 0142"),
        ("Reach me on +44 20 7946 0958", "phone", "+44 20 7946 0958"),
        ("cell: 6175550142", "phone", "6175550142"),
        ("Fax the results to 617.555.0143", "fax", "617.555.0143"),
        ("Write to anna.k@mail.example.org", "email", "anna.k@mail.example.org"),
        ("anna dot lee at gmail dot com", "email", "anna dot lee at gmail dot com"),
        ("See https://www.facebook.com/anna.lee.9", "profile", "https://www.facebook.com/anna.lee.9"),
        ("my instagram is sunny_anna22", "profile", "sunny_anna22"),
        (
            "I live at 42 Elm Street, Apt 3, Springfield, IL 62704.",
            "address",
            "42 Elm Street, Apt 3, Springfield, IL 62704",
        ),
        ("Ich wohne Lange Straße 5, 10115 Berlin.", "address", "Lange Straße 5, 10115 Berlin"),
        ("my zip code is 02139", "address", "02139"),
        ("We moved to SW1A 1AA last year.", "address", "SW1A 1AA"),
        ("MRN 00123456", "record", "00123456"),
        ("My SSN is 123-45-6789.", "record", "123-45-6789"),
        ("insurance policy no. XJ-2298471", "record", "XJ-2298471"),
        ("NHS number 943 476 5919", "record", "943 476 5919"),
        ("pacemaker serial number PM-99812-A", "device", "PM-99812-A"),
        ("The pump has MAC 00:1A:2B:3C:4D:5E", "device", "00:1A:2B:3C:4D:5E"),
        ("my account number is 12345678", "account", "12345678"),
        ("card 4111 1111 1111 1111 was charged", "account", "4111 1111 1111 1111"),
        ("IBAN DE89 3704 0044 0532 0130 00", "account", "DE89 3704 0044 0532 0130 00"),
        ("I wrote from 203.0.113.77 yesterday", "ip", "203.0.113.77"),
    ],
)
def test_an_identifier_is_found_as_a_whole(text: str, kind: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "What is Parkinson's disease, and how is it told from Huntington's chorea?",
        "Bell's palsy, Down syndrome, Hashimoto thyroiditis and Crohn disease are named after doctors.",
        "The Charcot-Marie-Tooth, Guillain-Barré and Ehlers-Danlos syndromes",
        "Lou Gehrig's disease was first described by Jean-Martin Charcot.",
        "St. John's wort may interact with warfarin; ask at Johns Hopkins Hospital.",
        "Some have a Mary Walker phenomenon, others a John Thomas sign.",
        "The rash was first described by Robert Miller in children.",
        "You can call 1-800-555-1234 at any time.",
        "MS Patients may see a DR Specialist after an MR Scan.",
        "Take 500 mg of metformin twice a day, or 2.5 ml of a 1:1000 solution.",
        "HbA1c 7.2 %, CD4 350, LDL 130 mg/dL, blood pressure 120/80, pulse 95.",
        "The BRCA1 gene on 17q21.31 and the variant NM_007294.4:c.5266dup (rs80357906)",
        "ICD-10 E11.9, OMIM 143100, NCT01234567, PMID 12345678, CAS 50-78-2",
        "Call the helpline at 1-800-273-8255 or 988.",
        "Contact the National Eye Institute at 301-496-5248 or 2020@nei.nih.gov, www.nei.nih.gov",
        "Write to the Foundation: 251 Post Street, Suite 600, San Francisco, CA 94108, www.glaucoma.org",
        "The FDA approved it on March 3, 2015.",
        "As of January 1, 2008, both are called E. chaffeensis.",
        "It may first be seen at age 2; type 3 may follow.",
        "People over 90 and 95-year-olds are at risk; adults aged 90 and older too.",
        "Version 1.2.3.4 of the software",
        "I am Diabetic and my doctor Said so. Dear Doctor, Hello Everyone, Thanks, Worried Mother",
        "See your doctor. Hearing aids may help. A drug called Xarelto, a gene named Sonic Hedgehog",
        "B12 5 mg daily, T3 and T4, D2 5HT",
    ],
)
def test_medicine_and_what_is_public_stays(text: str) -> None:
    assert found(text, text) == []


def test_a_name_that_was_found_is_found_in_the_other_text_too() -> None:
    assert (
        found("My name is Oluwaseun.", "Hello Oluwaseun, rest. Oluwaseun's cough will pass.")
        == [
            ("name", "Oluwaseun"),
        ]
        * 3
    )


def test_finds_of_a_text_do_not_overlap_and_stand_in_order() -> None:
    text = "Mr. Lee, MRN 617-555-0142, fax 617-555-0143, lee@x.org, 3/4/1985, 42 Elm Street, Salem, MA 01970, age 95"
    finds = find_in_row(text, text)
    for name in ("question", "answer"):
        ends = [(find.start, find.end) for find in finds if find.field == name]
        assert ends == sorted(ends)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    assert {find.kind for find in finds} == {"name", "record", "fax", "email", "date", "address", "age"}
    assert {find.kind for find in finds} <= set(KINDS)


@pytest.mark.parametrize(
    "sign",
    ["a", "A", "A ", "a.", "1", "1 ", "1-", "A'", "Aa-", "@a", "a@", "(", "May ", "Dr. ", "my name is ", "é", "١"],
)
def test_a_long_text_of_one_sign_takes_no_longer_than_its_length(sign: str) -> None:
    started = time.process_time()
    find_in_row(sign * 20_000, "")
    assert time.process_time() - started < 10  # quadratic time would take minutes
