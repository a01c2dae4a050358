"""Where a text may be cut: exact pieces, abbreviations, lists, other scripts."""

import sys

import pytest

from helpers.limits import processor_limit
from medqa_cli.prompt.sentence_ends import last_cut, sentence_ends, word_ends


def pieces(text: str) -> list[str]:
    """The text cut at every sentence end."""
    ends = sentence_ends(text)
    return [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    "text",
    [
        "Some drugs, e.g. Aspirin, help.",
        "Two forms, i.e. Type 1 and Type 2, exist.",
        "Ask Dr. Smith or Prof. Jones first.",
        "In the U.S. Food and Drug Administration it is known.",
        "Drug A vs. Placebo was tried.",
        "It lasts approx. 5 days.",
        "Found by J. P. Morgan and Ann B. Lee.",
        "Take 0.5 mg or 1.25 mg a day.",
        "See Fig. 2 and No. 7 of Vol. 3.",
        "Smith et al. Described it.",
        "She holds a Ph.D. And she is an M.D. Too.",
        "It is caused by E. coli and others.",
        "Fruit, nuts, etc. are good (why? nobody knows) for you.",
        "It goes on... and on.",
        "The site is www.nih.gov or 10.1000/182.",
        "Die Lunge bzw. Organe und ggf. Antibiotika, z. B. Penicillin, d. h. Tabletten.",
        "Nach Abs. 3 und vgl. Nr. 5 am 3. Mai nehmen ca. 20 Menschen evtl. Tabletten.",
        "Zgodnie z art. 46 ust. 2 ustawy, np. Kraków, m.in. Polska i dr hab. Nowak.",
        "Enligt kap. 1 och t.ex. Alvedon, bl.a. Ipren, s.k. Virus, jfr. Sverige.",
        "Prenez p.ex. Doliprane, M. Dupont et Mme. Durand, cf. Annexe, par ex. Paris.",
        "El Sr. Pérez y la Dra. Ruiz, p. ej. Ibuprofeno, aprox. 5 días, pág. 7.",
        "Ad es. Roma, il dott. Rossi e la sig.ra Bianchi, pag. 3.",
        "Bijv. Paracetamol, dhr. Jansen en mevr. Smit, d.w.z. Rust.",
        "Fx f.eks. Panodil, nr. 4, kl. 8 og ca. 20.",
        "Např. Praha, tzv. Syndrom, čl. 5, MUDr. Novák.",
        "Pl. Budapest, dr. Kovács, ún. Szindróma.",
        "Örn. Aspirin, bkz. Tablo, Doç. Yılmaz, Dr. Kaya.",
        "Esim. Burana, ns. Influenssa, prof. Virtanen.",
        "Take Tab. Dolo 650, Cap. Omez, Inj. Voveran and Syp. Ambrolite.",
        "It holds BLUE NO. 1 and RED NO. 40 by DR. SMITH.",
        "Gặp BS. Nguyễn hoặc ThS. Trần.",
        "En EE. UU. Canadá y los RR. HH. Públicos hay casos.",
        "См. стр. 5 и рис. 3, т. е. Вирус, напр. Грипп.",
        "Це напр. Аспірин, див. Розділ 2.",
        "Npr. Aspirin, tzv. Sindrom, str. 5.",
        "Ο Δρ. Παπαδόπουλος, π.χ. Ασπιρίνη, βλ. Σελίδα 4, σελ. 5.",
        "Ο πυρετός πέφτει· ο πόνος μένει.",
        "डॉ. शर्मा से मिलें।",
        "A semicolon; And a point · Of no Greek.",
        "A long line that was\nwrapped by an editor.",
        "An abbreviation, approx.\nfive days, at the end of a line.",
    ],
)
def test_one_sentence_stays_one(text: str) -> None:
    assert pieces(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It hurts. See a doctor! Why? Because.", ["It hurts.", "See a doctor!", "Why?", "Because."]),
        ('He said "stop." Then (at 5 p.m.) He left.', ['He said "stop."', "Then (at 5 p.m.) He left."]),
        ("It fell to 2. In 1999. It rose.", ["It fell to 2.", "In 1999.", "It rose."]),
        ("Take vitamin B12. Rest.", ["Take vitamin B12.", "Rest."]),
        ("People with MS. Others.", ["People with MS.", "Others."]),
        ("He was cured … She was not.", ["He was cured …", "She was not."]),
        ("Läs sid. 3. Sedan vila.", ["Läs sid. 3.", "Sedan vila."]),
        ("See Fig. 3. Then rest.", ["See Fig. 3.", "Then rest."]),
        ("См. стр. 5. Потом рис. 2.", ["См. стр. 5.", "Потом рис. 2."]),
        ("Πόσο κρατάει; Δύο μέρες. Πονάει\u037e Ναι.", ["Πόσο κρατάει;", "Δύο μέρες.", "Πονάει\u037e", "Ναι."]),
        ("Πάρτε νερό· Μετά ξεκούραση.", ["Πάρτε νερό·", "Μετά ξεκούραση."]),
        ("Steps: 1. Wash it. 2. Dry it.", ["Steps: 1. Wash it.", "2. Dry it."]),
        ("1. Wash it.\n2. Dry it.", ["1. Wash it.", "2. Dry it."]),
        ("Es heilt. Über Nacht. Örtlich.", ["Es heilt.", "Über Nacht.", "Örtlich."]),
        ("糖尿病です。治療は「薬」。「はい。」終わり", ["糖尿病です。", "治療は「薬」。", "「はい。」", "終わり"]),
        ("आराम करें। पानी पिएं।ठीक है॥", ["आराम करें।", "पानी पिएं।", "ठीक है॥"]),
        ("آرام کریں۔ پانی پیئیں۔", ["آرام کریں۔", "پانی پیئیں۔"]),
        ("هل هو خطير؟ نعم.", ["هل هو خطير؟", "نعم."]),
        ("နားပါ။ ရေသောက်ပါ။", ["နားပါ။", "ရေသောက်ပါ။"]),
        ("ዕረፍት ያድርጉ። ውሃ ይጠጡ።", ["ዕረፍት ያድርጉ።", "ውሃ ይጠጡ።"]),
        ("Hanգստացեք։ Ջուր խմեք։", ["Hanգստացեք։", "Ջուր խմեք։"]),
        ("សម្រាក។ ផឹកទឹក។", ["សម្រាក។", "ផឹកទឹក។"]),
        (
            "It is the state of the art. The rest is no. It is so.",
            ["It is the state of the art.", "The rest is no. It is so."],
        ),
        ("Er sagt „Ja.“ Dann geht er.", ["Er sagt „Ja.“", "Dann geht er."]),
        ("It fell to 12. In 1999 it rose.", ["It fell to 12.", "In 1999 it rose."]),
        ("Es gibt es. Die Zahl ist 5. Das ist gut.", ["Es gibt es.", "Die Zahl ist 5.", "Das ist gut."]),
        ("One.\n\nmRNA is next.", ["One.", "mRNA is next."]),
        ("No mark at the end", ["No mark at the end"]),
        ("Ends with a space. ", ["Ends with a space."]),
    ],
)
def test_sentences_end_at_marks_and_not_at_abbreviations(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_lines_of_a_list_end_but_not_what_leads_into_them() -> None:
    text = "Signs are:\n- fever\n- a very\nlong line\n* cough, etc.\n\n2) rash\n\nKey points\n\nIt passes"
    assert pieces(text) == [
        "Signs are:\n- fever",
        "- a very\nlong line\n* cough, etc.",
        "2) rash",
        "Key points\n\nIt passes",
    ]


def test_a_long_paragraph_without_a_mark_ends_unless_a_list_follows() -> None:
    long = "Bone problems, in particular those of the hips and of the spine, and others"
    assert pieces(f"{long}\n\nMore") == [long, "More"]
    assert pieces(f"{long}\n\n- hips\n- spine") == [f"{long}\n\n- hips", "- spine"]


def test_a_text_without_letters() -> None:
    assert sentence_ends("") == sentence_ends(" \n ") == word_ends("") == []
    assert word_ends("a - b.\n - ") == [1, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer of a process's own time")
def test_long_runs_end_within_ten_seconds_of_processor() -> None:
    """Each of these takes minutes with a pattern that starts again at every character, a part of a second now."""
    with processor_limit(10):
        check_long_runs()


def check_long_runs() -> None:
    for text in ("." * 200_000 + "x", "-" * 200_000, "\n" * 200_000 + "x", "x." + " " * 200_000, '."' * 100_000):
        assert sentence_ends(text)[-1] == len(text.rstrip())
        assert len(word_ends(text)) <= 1


def test_the_last_cut_is_a_sentence_end_or_else_a_word_end() -> None:
    text = "One two. Three four five"
    at = {3: 1, 8: 2, 14: 3, 19: 4, 24: 5}.get  # a token for each word
    assert [last_cut(text, at, room) for room in (1, 2, 3, 4, 5, 6)] == [1, 2, 2, 2, 5, 5]
    # With the sentence end in the first half a word end is better.
    assert last_cut("A. Two three four five", {2: 1, 6: 2, 12: 3, 17: 4}.get, 3) == 3
    assert last_cut("A. " + "x" * 50, {2: 1}.get, 9) is None
