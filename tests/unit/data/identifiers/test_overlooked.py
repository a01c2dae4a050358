"""Identifiers that were overlooked once, by the way people write them, and what looks like them and stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_cli.data.identifiers.finding import find_in_row, mended
from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names, common_words, mistyped_words


def found(text: str) -> list[tuple[str, str]]:
    return [(find.kind, text[find.start : find.end]) for find in find_in_row(text, "")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Typing errors in the word before it, and a missing space.
        ("My sisetr Zofia has a cough.", "Zofia"),
        ("my huband tomasz takes warfarin", "tomasz"),
        ("I saw Professro Okonkwo.", "Okonkwo"),
        ("my psychiatrist dr.Morales gave it", "Morales"),
        ("Thnaks, Priyanka", "Priyanka"),
        # Small letters.
        ("my doctor, isabela borges, says so", "isabela borges"),
        ("thanks tania!! it helped", "tania"),
        ("my son's name is c. cook, he is 4", "c. cook"),
        ("hope this helps, zofia", "zofia"),
        ("the letter from dr. abhimanyu lodwal was late", "abhimanyu lodwal"),
        ("is it safe for my panic? - lisa", "lisa"),
        ("seen by ifeoma adebayo, d.o., today", "ifeoma adebayo"),
        # Capitals and initials.
        ("Hi, I'm KARINA, and I cough.", "KARINA"),
        ("Surgeon K. Lodwal. No pain.", "K. Lodwal"),
        ("Bonjour, je m'appelle JL Oyelaran. Merci", "JL Oyelaran"),
        # Surnames that are words.
        ("Professor Long would start with it.", "Long"),
        ("Dr. Cook said no.", "Cook"),
        # Of no table, and cues of everyday messages.
        ("Call me Oyinkansola, please.", "Oyinkansola"),
        ("Hello, I am Oyinkansola, mother of two.", "Oyinkansola"),
        ("RIP Kiaan O’Connor, you fought well.", "Kiaan O’Connor"),
        ("Hang in there! Lodwala x", "Lodwala"),
        ("Lab order for Lodwal Mbeki (11/6/1963)", "Lodwal Mbeki"),
        ("According to Güngören Zengin, it works.", "Güngören Zengin"),
        ("My brother-in-law Bryan is a carrier.", "Bryan"),
        ("The nurse (Chioma) told me so.", "Chioma"),
        ("Transfer note. Cherek, Zofia. Room 12.", "Cherek, Zofia"),
        ("Message from MacLeod, Chinwe: it is red.", "MacLeod, Chinwe"),
        ("Fax it, att. Joshua de la Cruz. Thanks", "Joshua de la Cruz"),
        # Other languages.
        ("Familie Brandt fragt nach Ibuprofen.", "Brandt"),
        ("Meine Tochter Annelie hat Fieber.", "Annelie"),
        ("mi hija Ximena tiene fiebre", "Ximena"),
    ],
)
def test_a_name_is_found_however_people_write_it(text: str, value: str) -> None:
    assert ("name", value) in found(text)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("I live at 12 Rue de la Paix, 75002 Paris.", "address", "12 Rue de la Paix, 75002 Paris"),
        ("can you deliver insulin to 80359 david tunnel?", "address", "80359 david tunnel"),
        ("SEND MY RESULTS TO H.NO. 78, DANI MARG, BARANAGAR.", "address", "H.NO. 78, DANI MARG, BARANAGAR"),
        ("I moved to 464 maple ave, Fresno and need help", "address", "464 maple ave, Fresno"),
        ("cc: Dr. Lance Holt, 33 Rebecca Byway, 2641", "address", "33 Rebecca Byway, 2641"),
        ("Ich wohne in 79106 Freiburg.", "address", "79106 Freiburg"),
        ("Send it to Wohlgemutring 3, please.", "address", "Wohlgemutring 3"),
        ("My address is GPO Box 1123, Perth WA 6001", "address", "GPO Box 1123, Perth WA 6001"),
        ("Tel. 0761 / 270-34567", "phone", "0761 / 270-34567"),
        ("Daughter (Kabir Grewal, 9861606103) informed.", "phone", "9861606103"),
        ("Mon numéro est le 22 288 69 99.", "phone", "22 288 69 99"),
        ("my fax number is 913-188-8290 ext 988", "fax", "913-188-8290 ext 988"),
        ("Meine Mutter ist 93 Jahre alt.", "age", "93"),
        ("I write for my father (101 years).", "age", "101"),
        ("He's a 97yo veteran", "age", "97"),
        ("My blog is at http://www.lodwalmbeki.net today", "profile", "http://www.lodwalmbeki.net"),
        ("Ask u/karl.spiess about it", "profile", "u/karl.spiess"),
        ("Aadhaar 4920 2345 9371", "record", "4920 2345 9371"),
        ("License no . 733738697", "account", "733738697"),
    ],
)
def test_numbers_ages_and_places_are_found_however_people_write_them(text: str, kind: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Names of users in lists of who looked, and staff numbers with the word behind.
        ("Scan opened by kw_7c2210 at night, my sister was asleep.", "kw_7c2210"),
        ("My aunt's chart was printed by hjr47, I never agreed.", "hjr47"),
        ("My rash form went to qpd318z (that's my payroll ID) by mistake.", "qpd318z"),
        ("My knee hurts. 660913 is my badge number.", "660913"),
        ("My mother asked again, chaperone ID wbx39 was there.", "wbx39"),
        # Letters behind long numbers, groups that begin with a digit, codes that begin as those of vitamins or cells.
        ("My wife's armband says 7719402 A and not her name.", "7719402 A"),
        ("My implant, serial no. K40177 3PX, beeps at night.", "K40177 3PX"),
        ("My son's screen (card B129936-T) came back.", "B129936-T"),
        ("Her licence on the door says D362-9917-4405, my mother trusts her.", "D362-9917-4405"),
        ("My dad is ill. Insurance / ID: WWK277 61 4490\nMeds at school: none", "WWK277 61 4490"),
        ("My mum got the wrong drug, the printout at the head of the bed says 418-22-90.", "418-22-90"),
        ("My ear hurts, the visit is booked under QX8R3T.", "QX8R3T"),
        ("Mia zia ha una fascia con scritto 5532 1809.", "5532 1809"),
        ("Meine Mutter ist krank, Dienstausweis 55-3218.", "55-3218"),
        ("My counselor, LMFT 225593, moved away and I am sad.", "225593"),
        # Plates of other forms.
        ("My husband drove off (plate TRWK 38) and had a seizure.", "TRWK 38"),
        ("My dad still needs his lorry (reg. 4KD T7M) with sleep apnea.", "4KD T7M"),
        ("My van, a blue one, DX17 PLK, hit a wall and my neck hurts.", "DX17 PLK"),
        # Phones: said in words, of who called, with a word for the place before it.
        ("My gran fell. Ring me, it's six six four, oh two two nine.", "six six four, oh two two nine"),
        ("My son coughs. Work: 07-41 33 26", "07-41 33 26"),
        ('My mom got a call from a "Medicare adviser", from 050 771 2203.', "050 771 2203"),
        ("My foot is numb, cell: seven one two 555 0153", "seven one two 555 0153"),
        ("Phone 1: 555 0153. My leg is swollen.", "555 0153"),
        ("Hi all, softspine73 here, my neck is stuck.", "softspine73"),
        ("I've posted this as GoutyGerald before, my joints hurt.", "GoutyGerald"),
        # Boxes beside posts, and the blog of a signature.
        ("Name: tessa-vale-41\nPosts: 12\nMy foot burns on metformin.", "tessa-vale-41"),
        ("My asthma is bad. | blog http://www.lakehealth.example/tessa", "http://www.lakehealth.example/tessa"),
        ("My nurse found me online (she's tessa.rn.41 there) after my surgery.", "tessa.rn.41"),
    ],
)
def test_numbers_and_accounts_are_found_with_their_word_behind_or_in_odd_forms(text: str, value: str) -> None:
    assert value in [value for _, value in found(text)]


@pytest.mark.parametrize(
    "text",
    [
        "My strips, art. no. 12.305.660, came late.",
        "My kit (ref 406233) is positive.",
        "My needle is item 7719-903004, too long for my belly.",
        "My earplugs are to ASTM F3101-22, my tinnitus is worse.",
        "My pain was six, seven, eight, seven, six, five, four, eight.",
        "My son took one two three four five six seven eight pills.",
        "My son ate a plate 12 peas and vomited.",
        "My rash is gone, I took B12 1000 and D3 5000 and my CD4 350 is fine.",
    ],
)
def test_numbers_of_products_and_counts_stay(text: str) -> None:
    assert not found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Im Harn zu Steinen; auch im Blut Kristalle.",
        "DEBRA International helps families.",
        "Name: Ozempic. Dose: 5 mg. Name: methotrexate",
        "Will Jack Daniel's or Queen Anne's lace help? Dr. Scholl's pads do.",
        "Susan G. Komen\nToll-free: 1-800-273-8255",
        "I met the nurse (RN) and the doctor (MD).",
        "This may be used when a patient cannot have surgery.",
        "A patient bill of rights. The patient has dyspnea, fever.",
        "To search, go to: http://www.ncbi.nlm.nih.gov/PubMed",
        "According to Cancer Research, it helps. According to the Mayo Clinic, too.",
        "my mom recieved meds and my son cant sleep",
        "call me back tomorrow, call me crazy",
        "Thanks everyone! Thank you guys, take care",
        "I was sent to Ward 3 and moved to 20 mg. I live in 2 places.",
        "I moved to 2 tablets a day, and was moved to 10 different doctors.",
        "Treated by Radiation Oncology. Results of Phase II.",
        "Survival was 95 % at 10 years (90 percent).",
        "One in 10000 Americans takes it.",
    ],
)
def test_what_looks_like_them_stays(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "behind", ["Medicare 8797 24349 7", "SVNR 2057/0613, for a rash", "MRN 864201", "DOB 06/11/1963", "Ward 12, today"]
)
def test_a_number_with_a_word_behind_a_name_is_no_address(behind: str) -> None:
    assert not [value for kind, value in found(f"I saw Mr Lodwal Mbeki, {behind}") if kind == "address"]


@pytest.mark.parametrize(
    "street", ["Corredor Lodwal 972", "Backtorget 58, Sandviken", "ul. Wilcza 23/57, 24-315", "Flat 12, Lodwal Rise"]
)
def test_an_address_behind_a_name_ends_with_its_last_word(street: str) -> None:
    assert ("address", street) in found(f"cc: Dr. Lance Holt, {street} (flat in the yard)")


@given(
    st.lists(
        st.sampled_from(["my", "sisetr", "huband", "dr.lee", "Thnaks,", "é", "DR.Lee", " ", "\n", "x"]), max_size=12
    )
)
def test_what_is_no_typing_error_keeps_its_place(words: list[str]) -> None:
    written = " ".join(words)
    made = mended(Text(written))
    for place, character in enumerate(made.text.text):
        if not any(start <= place < end for start, end, _, _ in made.changes):
            span = made.written(Span(place, place + 1, "name"))
            assert written[span.start : span.end] == character


def test_a_find_behind_a_typing_error_has_its_place_in_the_text_as_it_was_written() -> None:
    text = "My daugher Zofia and my husbannd Tomasz see dr.Okonkwo. My sisetr Maria too."
    assert found(text) == [("name", name) for name in ("Zofia", "Tomasz", "Okonkwo", "Maria")]


def test_a_text_without_typing_errors_is_not_changed() -> None:
    text = Text("My daughter and my sisters see Dr. Okonkwo, her patience ends.")
    assert mended(text).text is text
    assert mended(text).changes == ()


def test_no_word_or_name_is_taken_for_a_typing_error() -> None:
    assert not (common_words() | all_names()) & mistyped_words().keys()
    assert mistyped_words()["sisetr"] == "sister"


def test_no_name_of_the_tables_is_in_the_file_of_common_words() -> None:
    for name in ("zofia", "smith", "maria", "kowalczyk"):
        assert name not in common_words()
    assert {"cough", "kidney", "sleep"} <= common_words()
