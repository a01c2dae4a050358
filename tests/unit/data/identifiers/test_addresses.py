"""Addresses of many countries in a text about one person, whole, and numbers beside words that are none."""

import pytest

from medqa_cli.data.identifiers.finding import find_in_row

ADDRESSES = [
    "Apt. 3C, 18 Elm St", "PO Box 2231, Fargo, ND 58102", "Flat 3, 22 Jones Ways, North Kieran, W1A 0AX",
    "Rose Cottage, Church Road, Thirsk YO7 1AA", "8/543 Ryan Promenade, West Michael, TAS 2814",
    "Unit 36, 2731 Adaeze Lock", "4 Shop Street, Galway H91 X2P3", "Door No 12, Anna Nagar 3rd Cross, Chennai 600040",
    "House 5, Road 12, Dhanmondi, Dhaka", "Marga-Wesack-Weg 2567, Berchtesgaden", "Steigerweg 3, CH-3011 Bern",
    "59, chemin Carpentier, 30333 Cousin", "C/ Mayor 5, 2º A, 28013 Madrid", "Carrera 7 # 45-12, Bogotá",
    "Piazza Scarpetta 5 Appartamento 19, 54027 Pontremoli", "Rua das Flores, 120, apto 31", "Lunasingel 9, Zeijen",
    "Kyrkvägen 12, 645 30 Strängnäs", "ul. Wilcza 23/57, 00-544 Warszawa", "Jezuitski trg 344",
    "Avcinova ulica 598, 4771 Šempeter pri Gorici", "Kossuth utca 12., 7121 Lajostamás",
    "Atatürk Caddesi No: 12 D:4, Kadıköy, İstanbul", "Brīvības iela 12, Rīga LV-1010", "Số 278 Ngõ 63 Phố Hoàng Diệu",
    "Lot 5 Blk 12, Sampaguita St., Quezon City",
]  # fmt: skip


def addresses(text: str) -> list[str]:
    return [text[find.start : find.end].strip(" .") for find in find_in_row(text, "") if find.kind == "address"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_found_whole_behind_words_and_on_a_line(address: str) -> None:
    assert addresses(f"My mother Anna lives at {address}. Can a nurse come?") == [address.strip(" .")]
    assert addresses(f"Name: Anna Lee\nAddress: {address}\nTel 0151 234567\nMy dizziness is back.") == [
        address.strip(" .")
    ]


@pytest.mark.parametrize(
    "address",
    [
        "hauptstraße 12, 79106 freiburg",
        "flat 0, toby extension, new julia w9t 3pq",
        "59, chemin carpentier, 30333 cousin",
    ],
)
def test_an_address_in_small_letters_is_found_with_its_town(address: str) -> None:
    assert addresses(f"my mum is at {address}. can a nurse come") == [address]


def test_the_lines_of_a_letterhead_are_an_address_and_a_phone_number() -> None:
    text = "Best,\nAnna Lee\n01915 Ekene Forks Apt. 944, Ezemouth\nTel. 318.691.6311\nIs my level too high?"
    finds = [(find.kind, text[find.start : find.end]) for find in find_in_row(text, "")]
    assert ("address", "01915 Ekene Forks Apt. 944, Ezemouth") in finds
    assert ("phone", "318.691.6311") in finds


@pytest.mark.parametrize(
    "street", ["580 Parsons Gateway Apt. 215", "42 Walsh Union, East Marian G00 3GG", "rue de Charpié 56"]
)
def test_an_address_behind_a_day_of_birth_takes_no_part_of_it(street: str) -> None:
    text = f"Re: Anna Lee, DOB 12/5/1980, {street}. Thank you for seeing this lady."
    finds = [(find.kind, text[find.start : find.end]) for find in find_in_row(text, "")]
    assert finds[1:] == [("date", "12/5/1980"), ("address", street)]


@pytest.mark.parametrize(
    "address",
    [
        "3 Carol Passage, Melissastad",
        "8141 Gandhi Ithafa, Polokwane",
        "Rudoltická 136, Vítkov",
        "juarézova 1, ronov nad doubravou",
        "Tangenlia 83F, 8690 Hanssen",
        "Alonso de Ribera 97, 5337400 Maule",
        "Mathias Soto 641 Of. 986, 4978690 Tomé",
        "Carrera 67 # 90-9 Este, San Sebastián de Buenavista",
        "Blv. Mitre N° 17, Bahía Blanca",
        "Calzada Norte Camacho 969 371, 05964-0235 San Silvano los altos",
        "80/883 Điện Biên Phủ, 78470 Thành phố Cần Thơ",
        "48/278 Ngõ 32 đường 95, 65298 thành phố Huế",
        "H.No. 549, Aggarwal, Amritsar 547527",
        "H.No. 499, Ramesh, Gulbarga",
        "Julesstraat 693, 8648BU Tull en 't Waal",
        "rue Dias, 70916 Arnaud-sur-Robin",
        "Rua Torres, S/N, 2542-754 Caniço",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "Discharged to {} with home oxygen. Daughter stays with her.",
        "He was picked up from {} by ambulance after he fell. He takes warfarin.",
        "Home visit ({}): patient in bed, short of breath.",
        "| patient | 71 F |\n| lives | {} |\n| problem | leg ulcer |",
        "The nurse went to the wrong house, we are {} and my wife waited all day.",
    ],
)
def test_a_street_of_unknown_words_is_found_whole_behind_words_of_homes(address: str, text: str) -> None:
    assert address in addresses(text.format(address))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Is there a vein clinic near 75107? My legs ache every evening.", "75107"),
        ("I live in 2341 and have had hives since May.", "2341"),
        ("I'm in the 64-780 area and need a dentist, my tooth hurts.", "64-780"),
        ("Is there a clinic near 1748 YY? My legs ache.", "1748 YY"),
        ("Patient (F, 67, 408 37) asks for a home visit.", "408 37"),
        ("rota: my mum, ml6e 3pf, catheter. she wants the flu jab.", "ml6e 3pf"),
        ("Anna\nJ1E 7V7\nI have had a sore throat for a week.", "J1E 7V7"),
        ("Anna Lee, 33-104, wants to know if her cough is whooping cough.", "33-104"),
        ("Where can I get a flu jab in 75107? I am pregnant.", "75107"),
        ("Our area (75107) has high radon. My husband smokes.", "75107"),
        ("My sister, H91 X2P3, has a cough and no doctor.", "H91 X2P3"),
    ],
)
def test_a_postcode_alone_is_found_behind_words_of_places_or_by_its_letters(text: str, code: str) -> None:
    assert addresses(text) == [code]


@pytest.mark.parametrize(
    "text",
    [
        "I moved in 2008 and my doctor says one of 20000 has it.",
        "I live in fear: my platelets are 12000 and we are at 38000 now.",
        "My spine hurts at L4 and L5, T1w than T2, ATC C09AA03, B12 5mg.",
    ],
)
def test_years_counts_and_levels_of_the_spine_are_no_postcodes(text: str) -> None:
    assert addresses(text) == []


def test_an_address_in_small_letters_within_a_text_that_is_not_ends_before_the_next_word() -> None:
    assert addresses("I'm at 5772 rafeeq tunnel, 87696 tishkhaven and my husband has a seizure.") == [
        "5772 rafeeq tunnel, 87696 tishkhaven"
    ]
    assert addresses("Please deliver my oxygen to 17 McKevitt Street, not to the old house.") == ["17 McKevitt Street"]


def test_the_numbers_of_a_list_and_of_dates_before_names_are_no_houses() -> None:
    text = "Home visits on 3/4/2021\n1 Anna Lee, insulin\n2 John Smith, dressing\nAnna asked about her dizziness."
    assert addresses(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "My husband was moved from 20 Paxil to 40 Crestor, he lives with dizziness now.",
        "My son was sent to Boston 12 weeks ago, he lives there and coughs at night.",
        "Mother at home on 1 L bleed-in, wife says sats 94. Home visit at 10 Tuesday.",
        "Ich wohne in Graz, bin 36 Jahre alt, habe Diabetes seit 1994 und mir ist schwindlig.",
        "My labs: Na 138, K 4.2, Cl 101, HCO3 24, Urea 5.1. LDL 162, HDL 41.",
        "I was seen in room 12, bed 3, ward 5. GCS 13, BM 4. Mother worried.",
        "I moved from Texas to Oregon, 3 years ago, and my allergies are worse.",
        "My gran takes Metformin 500, Lisinopril 10, 30 bd. Wife asks why.",
        "MY HEART RATE WAS 110 AT REST. AT 58 YOU ARE WELL, MY DOCTOR SAYS.",
        "My ECG: PR 180, QRS 92, QT 400, axis 30. My doctor said normal.",
    ],
)
def test_values_and_doses_are_no_addresses(text: str) -> None:
    assert addresses(text) == []
