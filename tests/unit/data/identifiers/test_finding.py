"""Which parts of a text identify a person, by kind, and what only looks like it."""

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
        ("Write to Prof. de la Vega or ter Horst.", "name", "de la Vega"),
        ("As nurse practitioner Oluchi Eze explained, wait.", "name", "Oluchi Eze"),
        ("Prescriber K. Oyelaran. Dose doubled.", "name", "K. Oyelaran"),
        ("seen by ifeoma adebayo, m.d., for a rash", "name", "ifeoma adebayo"),
        ("SPOKE TO D. OKONKWO, RN, ABOUT IT", "name", "D. OKONKWO"),
        ("We spoke to T. OKONKWO, RN, about it.", "name", "T. OKONKWO"),
        ("Thank you for your message, Ngozi. Rest now.", "name", "Ngozi"),
        ("Hi all, Ngozi here. Is it safe?", "name", "Ngozi"),
        ("Good evening. Chukwu Obi here. Is it safe?", "name", "Chukwu Obi"),
        ("I, Chukwu Obi, of Kent, ask for my file.", "name", "Chukwu Obi"),
        ("Hello everyone, Karen (54) here.", "name", "Karen"),
        ("My aunt will be 97 in June.", "age", "97"),
        ("Susan Miller, 93, a retired nurse, fell.", "age", "93"),
        ("Report by Susan Miller, RN. Reviewed by her on March 3, 2019.", "date", "March 3, 2019"),
        ("She posted it in May 2019 and my mother wept.", "date", "May 2019"),
        ("My number is +44 20 7946 0958 x12", "phone", "+44 20 7946 0958 x12"),
        ("write to lee(at)kanzlei.de", "email", "lee(at)kanzlei.de"),
        ("ask u/sleepless_in_22 about it", "profile", "u/sleepless_in_22"),
        ("He lives at 7 Quarry Bank, Ossett WF5 8NQ.", "address", "7 Quarry Bank, Ossett WF5 8NQ"),
        ("Unit 3, 18 Wattle Parade, Kiama NSW 2533", "address", "Unit 3, 18 Wattle Parade, Kiama NSW 2533"),
        ("It is Kerkstraat 12, 1017 AB Amsterdam.", "address", "Kerkstraat 12, 1017 AB Amsterdam"),
        ("Björkvägen 4, 123 45 Solna", "address", "Björkvägen 4, 123 45 Solna"),
        ("I moved to 12 Larch Rise, Ely.", "address", "12 Larch Rise, Ely"),
        ("hospital number 41 77 03", "record", "41 77 03"),
        ("Case 4410923: a man fell", "record", "4410923"),
        ("VIN JH4KA9650MC012345", "device", "JH4KA9650MC012345"),
        ("license plate KA 77 XYZ", "device", "KA 77 XYZ"),
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
        "Give 5 u/kg or 100 u/ml, in any case 5000 units. A plate of 12 beans and 40 g rice.",
        "Ito M, et al. Cell 2019;14:2. The pump was updated to 3.1.4.15 at the Prince Philip Infirmary.",
        "Factor I, Factor II and its Receptor; von Willebrand factor and de Quervain tenosynovitis",
        "Thank you for your question. Aspirin helps. Good morning. Dialysis here.",
        "I was bitten by a Jack Russell in Sierra Leone. The page was last reviewed on March 3, 2019.",
        "THE PAGE WAS LAST REVIEWED ON APRIL 3, 2015 BY THE BOARD.",
        "Phase 2, 10 Centers, 12345 Patients; Table 3, 20892 Rows; Grade 3 Toxicity, A1C and B12",
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
