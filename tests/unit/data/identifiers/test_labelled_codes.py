"""Numbers and codes behind a word for one, in a text about one person: by family of words and form of the value."""

import pytest

from medqa_cli.data.identifiers.code_labels import label_before
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.labelled_codes import certain_codes
from medqa_cli.data.identifiers.text import Text

_KINDS = ("record", "device", "account", "phone")


def found(text: str) -> list[str]:
    return [text[find.start : find.end] for find in find_in_row(text, "") if find.kind in _KINDS]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Insurers, claims and referrals.
        ("My mammogram is due but the app says member XPW 884 20 1137 has lapsed.", "XPW 884 20 1137"),
        ("The number on the front of my policy with Acme is 77-3318-Q, will it pay?", "77-3318-Q"),
        ("Group/policy... W0051448-02. My knee is swollen.", "W0051448-02"),
        ("My workers' comp case is WC 2023-118834, my back hurts.", "WC 2023-118834"),
        ("Referral no. 0009 1827 4433: may I eat before my scope?", "0009 1827 4433"),
        # Hospitals and laboratories.
        ("Unit number 00449213, ward 6, he is confused, please advise.", "00449213"),
        ("PID 88301947 / admitted with cellulitis, my notes are with the team.", "88301947"),
        ("MRN 52-07-19, she limps. My colleague saw her.", "52-07-19"),
        ("NHI JBK27RT. My son has croup.", "JBK27RT"),
        ("Lab no 24:C0188277, my ferritin is 8.", "24:C0188277"),
        ("The barcode on my urine pot is NX22087714, I forgot my name.", "NX22087714"),
        ("I am in the migraine study as 016-004 and feel dizzy, doctor.", "016-004"),
        ("Accession 24-777-9031: my biopsy.", "24-777-9031"),
        ("My pension letter 30 118827 K 470 says I am frail.", "30 118827 K 470"),
        ("Subjeect 013-086 reports a rash, my colleague saw her.", "013-086"),
        # Only the end of one, whatever it looks like.
        ("SSN ends in 2009 and I was born with a murmur.", "2009"),
        ("Last 4: 1987. My tinnitus is worse, doctor.", "1987"),
        # Other languages.
        ("Fall-Nr. 24/0088173, meine Mutter wurde entlassen.", "24/0088173"),
        ("n° de dossier 2024-00817, mon mari est malade depuis lundi.", "2024-00817"),
        ("RUT 12.345.678-5, me duele la rodilla desde el lunes, mi señora también.", "12.345.678-5"),
        ("Mijn moeder is gevallen, polisnummer 88-1203-44.", "88-1203-44"),
        ("Minha mãe tem febre, prontuário 0088172-3.", "0088172-3"),
        ("Mia madre ha la tosse, cartella n. 2024/88172.", "2024/88172"),
        ("Moja mama ma kaszel, nr kartoteki K/8812/24.", "K/8812/24"),
        ("nr legitymacji AB 448219, mój syn ma gorączkę", "AB 448219"),
        ("mutuelle n° adhérent 0044 8219, mes lunettes", "0044 8219"),
        # Accounts, licenses and users.
        ("Sort code 40-18-22 for my refund, my knee is fine.", "40-18-22"),
        ("The card ending in 4471 was charged for my visit.", "4471"),
        ("My user name should be qx448219 and I cannot log in to see my results.", "qx448219"),
        ("CDL S530 460 288 117, my seizures stopped.", "S530 460 288 117"),
        ("HPCSA MP 0448219 treated my mother.", "MP 0448219"),
        ("My doctor, Dr Ruiz (GMC4482190), wrote my referral.", "GMC4482190"),
        ("eRx token 448 219 AB7, my asthma is worse", "448 219 AB7"),
        ("Cigna U4482190 01 will not pay for my son", "U4482190 01"),
        ("RUN 9.448.219-0, mi mamá tiene fiebre", "9.448.219-0"),
        ("I paid from gb29 nwbk 6016 1331 9268 19 for the shots, my arm is sore.", "gb29 nwbk 6016 1331 9268 19"),
        # Devices and vehicles.
        ("My hip is a Stryker, lot # M4X8K2, it squeaks.", "M4X8K2"),
        ("Transmitter 8GR4K2 died and my sugar is all over.", "8GR4K2"),
        ("Transmitter 8HEHEU reads 62 and I feel fine, my finger says 98.", "8HEHEU"),
        ("My car, plate 749 PET, stood in the clinic car park.", "749 PET"),
        ("My hub pairs with MAC dbdd.6fd3.b8f2 and drops out.", "dbdd.6fd3.b8f2"),
        ("glucose meter KBGT448-Q2190 shows HI and I feel ok", "KBGT448-Q2190"),
        ("The registration of the van that hit me is LF68 OPH, my leg is broken.", "LF68 OPH"),
        ("Kennzeichen HH-KL 4482, der Wagen hat meinen Sohn angefahren.", "HH-KL 4482"),
        ("A truck, number plate b-ql 4117 hit my bicycle and my wrist hurts", "b-ql 4117"),
        ("Device 3f2504e0-4f89-11d3-9a0c-0305e82c3301 of my health app", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
        ("Serial number PID 987780, my pump beeps.", "PID 987780"),
    ],
)
def test_a_code_behind_its_label_is_found_as_a_whole(text: str, value: str) -> None:
    assert value in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "My code on the bill is 99213-25 and my sick note says ICD M54.50. Why?",
        "My report says MTHFR C677T, class 3, of OMIM #219700. Do I worry?",
        "The model number of my pump is 9500-08.",
        "My TSH range is 0.27-4.20 in one lab, hba1c 7.2 % in mine.",
        "The number of platelets in my report is 145000, my doctor is away.",
        "My visit 12-03-2019, my record of 10482 steps and my bill of $4482 are in the app.",
        "My lab says B12 of 180 is fine. My watch has version 1.0.0-rc2.",
        "MY LAB SAYS B12 OF 180 IS FINE, AND MY DOCTOR IS AWAY.",
        "My OGTT was 92-181-156, my doctor said diet.",
        "My pump shows error code E-4402, my son needs cannula REF MMT-242 and my drops are of batch number ABX1204.",
        "My log: 142/88 151/92 138/84. I run 40-50 km and have form DS-2019.",
        "My report says PALB2, heterozygous. The watch (v2.14.1) may be wrong. I use IR3535 against ticks.",
        "I read guidance ng28 that doxycycline is not for my sister. My patient aged 101 is well.",
        "A plate of 12 beans and my card has not come for 2 months.",
    ],
)
def test_the_numbers_of_products_tests_and_amounts_stay(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Name,MRN,Complaint\nlady,4471902,cough for three weeks", "4471902"),
        ("Problem | MRN\nmy leg ulcer | 88-19-204\nmy cough | 88-19-377", "88-19-377"),
    ],
)
def test_a_code_below_the_label_of_its_column_is_found(text: str, value: str) -> None:
    assert value in found(text)


def test_values_below_the_scores_of_a_note_are_no_codes() -> None:
    assert found("Patient, sex F, MRN: E6725381\nDx: CAP, CURB-65 2. Her cough is worse.") == ["E6725381"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("My insulin pump (serial on the back: SN 21-440981-B) stopped twice last night.", "SN 21-440981-B"),
        ("Her lens implant label: S/N 36975759-326, my mother sees halos.", "S/N 36975759-326"),
        ("My monitor (serial no. (21)T704412) beeps at night.", "(21)T704412"),
        ("I was told to mention ABX-77-190 in every mail about my mother's complaint.", "ABX-77-190"),
        ("They keep asking for my number. It's 8639 7502. My son has asthma.", "8639 7502"),
        ("My hospital number's C20 008 153 if that helps, my scan was on Monday.", "C20 008 153"),
        ("Re: W7132 28361\nDear doctor, my knee still hurts.", "W7132 28361"),
        ("The number on my letter is 277225 and my MRI was in May.", "277225"),
        ("My Aadhaar no is xxxx xxxx 8285, my sugar is high.", "xxxx xxxx 8285"),
        ("Insurance [3005 59355 8] denied my wife's infusion.", "3005 59355 8"),
        ("Chart: 8909 18 – 9360. Patient with chest pain, wife at bedside.", "8909 18 – 9360"),
        ("my card says pid 377464, my blood test is late", "pid 377464"),
        ("Patient (RAS44MK) asks for her inhaler.", "RAS44MK"),
        ("0099812-3, that's what they stamped on my referral for the knee.", "0099812-3"),
        ("My card, the one ending in 9921, was charged for my son's strep test twice.", "9921"),
        ("Sirs, I act for my mother (d.o.b. 1961, NI JT 53 37 24 A), she has dementia.", "JT 53 37 24 A"),
    ],
)
def test_codes_are_found_with_a_second_label_by_their_groups_and_behind_the_one(text: str, value: str) -> None:
    assert value in found(text)


@pytest.mark.parametrize("plate", ["QJ 6373Y", "07-NU-IQ", "55 HV 3730", "1637 NGJ", "AB12CDE", "BB-383-II"])
def test_a_plate_is_found_without_its_word_in_a_text_with_a_vehicle(plate: str) -> None:
    assert plate in found(f"He got into a grey Golf, {plate}, my dad is confused and has dementia.")
    assert plate in found(f"{plate} drove over my foot and it's swollen, doctor.")


def test_values_in_a_text_with_a_vehicle_are_no_plates() -> None:
    assert (
        found("My dad drives a car with BP 160, 120 BPM, T4N0 in 2019, COL1A1 and type 2 diabetes, CA19-9 high.") == []
    )


def test_the_maker_s_reference_stays_beside_a_serial_number() -> None:
    assert found("My sticker says REF 00-7531 and SN BLQ405948H. May I have an MRI?") == ["BLQ405948H"]


@pytest.mark.parametrize(
    ("before", "label"),
    [
        ("mrn: ", "mrn"),
        ("my patientennummer lautet ", "patientennummer"),
        ("the sticker on my left wrist says ", "sticker"),
        ("acct. no. ", "no"),
        ("last four of my social: ", "social"),
        ("the catalog number is ", None),
        ("my record. i walked ", None),
        ("i paid ", None),
    ],
)
def test_the_nearest_word_that_is_no_link_is_the_label(before: str, label: str | None) -> None:
    read = label_before(before)
    assert (read and read.word) == label


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("PRIOR AUTH NEEDED\nMEMBER ID: 0448 8219 0337 78\nGROUP: 448219-01", ["0448 8219 0337 78", "448219-01"]),
        ("Our group (ESR1 rs2234693) called 1800MEDICARE. A sample of 60000 users, study 140000.", []),
    ],
)
def test_labels_that_tell_enough_need_no_person_in_the_text(text: str, values: list[str]) -> None:
    assert [text[start:end] for start, end in certain_codes(Text(text))] == values
