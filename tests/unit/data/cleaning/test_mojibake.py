"""UTF-8 that was decoded as something else: repaired where certain, else told."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning.mojibake import garbled_words, looks_garbled, mojibake
from medqa_cli.data.convert import convert

TEXTS = [
    "patient’s “quote” – 38 °C, 5 µg, café, Ménière à la carte",
    "naïve Sjögren’s ½ ≥ 5 … • α-blocker ™ €",
    "Как лечить ангину?",
    "感冒要吃抗生素吗？",
    "ÉCOLE À PARIS",
    "¿Está el niño …?",
    "Größe „Spaß“",
    "it is fine 😀",
]


def garbled(text: str, codec: str = "cp1252") -> str:
    """The text as a program shows its UTF-8 that takes it for Windows-1252; the five bytes without a sign stay."""
    return "".join(bytes([byte]).decode(codec, "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("codec", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_decoded_wrongly_once_or_more_is_decoded_right(text: str, codec: str) -> None:
    once = garbled(text, codec)
    twice = garbled(once, codec)
    assert [mojibake(wrong) for wrong in (text, once, twice, garbled(twice, codec))] == [text] * 4


def test_a_part_of_a_text_that_is_otherwise_right_is_repaired() -> None:
    assert mojibake(f"Ménière’s: {garbled('the patient’s café')} – yes") == "Ménière’s: the patient’s café – yes"


@pytest.mark.parametrize(
    "text",
    [
        "Spaß“ „Ä“ AMANHÔ IRMû",
        "AMANHÃ” NÃO SÃO",
        "« à\xa0« la\xa0» café\xa0» déjà\xa0»",
        "FORÊT »\xa0ÎLE ±5 µg ± 0,5 °C",
        "français\xa0: Ça va\xa0? Où\xa0?",
        "MÜ° Ö¹ ß² Ð Þ",
    ],
)
def test_right_texts_stay(text: str) -> None:
    assert mojibake(text) == text


@given(st.text(max_size=30) | st.text(st.characters(max_codepoint=0x17F), max_size=30))
def test_twice_is_once(text: str) -> None:
    assert mojibake(mojibake(text)) == mojibake(text)


def test_what_cannot_be_repaired_is_told() -> None:
    lost = ["patientâ€s", "dÃ jÃ  vu", "a\ufffdb", "10 Â±5"]
    assert [looks_garbled(mojibake(text)) for text in lost] == [True, True, True, False]
    assert not any(map(looks_garbled, [*TEXTS, "SÃO PAULO", "Âge", "plain"]))


def test_convert_repairs_counts_and_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"What is disease {number}?", f"It is number {number} of many."] for number in range(8)]
    rows[2][1] = garbled("It is the patient’s café.")
    rows[5][1] = "It is a lost \ufffd sign."
    with open(tmp_path / "qa.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    render = "{} {}".format
    report = convert([str(tmp_path / "qa.csv")], DataConfig(), 1, render, None, tmp_path / "out")
    assert report["cleaning"]["mojibake"] == 1
    assert report["encoding"] == {"named": None, "garbled_rows": 1}
    told = " ".join(capsys.readouterr().err.split())
    assert "1 kept rows hold signs that a wrong decoding leaves" in told
    assert "the first: row 6 (line 7)" in told
    kept = [json.loads(line) for path in (tmp_path / "out").glob("t*.jsonl") for line in path.open(encoding="utf-8")]
    assert "It is the patient’s café." in {row["answer"] for row in kept}


@pytest.mark.parametrize(
    "text", ["이 약 먹어도 돼요?", "هو مرض و خطر.", "是 癌 吗 癌症", "У меня болит в боку", "Ты и я"]
)
def test_a_single_letter_of_another_script_is_repaired_beside_words_of_it(text: str) -> None:
    shown = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())
    assert mojibake(shown) == text
    assert not looks_garbled(text)


@pytest.mark.parametrize("codec", ["cp1251", "cp1250", "mac_roman", "cp437"])
def test_utf_8_that_was_decoded_in_another_code_page_is_told_and_kept(codec: str) -> None:
    text = {"cp1251": "Как лечить изжогу?", "cp1250": "jeść małe porcje"}.get(codec, "it’s 38 °C")
    shown = text.encode().decode(codec)
    assert looks_garbled(shown)
    assert not looks_garbled(text)


def test_a_word_that_is_nothing_but_garbled_signs_is_told() -> None:
    assert looks_garbled("ä¸\x8d æ˜¯")
    assert not any(map(looks_garbled, ["Рёбра болят. РОССИЯ", "„Ä“ ist ein Umlaut", "été…\xa0» dit-il", "5 √2 ± ≤ x"]))


WRONGLY_READ = [
    # (the text, the encoding that it was in, the one that it was read in)
    ("Как лечить изжогу?", "utf-8", "cp1251"),
    ("Jakie są objawy? Ból głowy i gorączka.", "utf-8", "cp1250"),
    ("Où a-t-on mal ? À la tête.", "utf-8", "mac_roman"),
    ("Größe und Gewicht prüfen", "utf-8", "cp437"),
    ("it’s 38 °C", "utf-8", "cp850"),
    ("감기에 항생제가 필요한가요?", "utf-8", "cp1251"),
    ("Bệnh này có di truyền không?", "utf-8", "cp1252"),
    ("Как лечить ангину и гастрит?", "cp1251", "cp1252"),
    ("Полоскание и таблетки для горла.", "koi8_r", "cp1251"),
    ("Полоскание и таблетки для горла.", "cp1251", "koi8_r"),
    ("Нужно ли пить антибиотики?", "cp1251", "mac_roman"),
    ("Πώς θεραπεύεται το άσθμα;", "cp1253", "cp1252"),
    ("고혈압 환자가 커피를 마셔도 되나요?", "cp949", "cp1252"),
    ("高血压患者能喝咖啡吗？每天一小杯通常没有问题。", "gb18030", "cp1252"),
]


@pytest.mark.parametrize(("text", "was", "read"), WRONGLY_READ)
def test_a_text_that_was_decoded_in_another_code_page_is_decoded_right(text: str, was: str, read: str) -> None:
    shown = "".join(bytes([byte]).decode(read, "ignore") or chr(byte) for byte in text.encode(was))
    assert (mojibake(shown), mojibake(text)) == (text, text)
    assert not looks_garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        # Croatian, Czech, Danish, Estonian, Finnish, Hungarian, Icelandic, Latvian, Lithuanian, Portuguese, Romanian,
        # Slovak, Turkish, Vietnamese
        "Šećerna bolest: što učiniti? Čaj i med.",
        "Příští týden: říští ďáblové, úžeh.",
        "På ø er å; sår på øjet. »Ja«",
        "Õhtul võib äädikas aidata – jah.",
        "Yöllä äiti söi hää„yötä”.",
        "Őrült nagy fájdalom, űző tünetek.",
        "Það er þó ekki ættgengt, æðar.",
        "Šķēršļi: ļoti sāpīga žņaudzēja.",
        "Ąžuolų žievė – ėmė į širdį.",
        "NÃO É SÓ CORAÇÃO… MÃE, PÃO “SÃO”",
        "Bolile și țesuturile; ÎNAINTE şi după.",
        "Ťažký kašeľ, ôsmy deň, ĺbivý.",
        "ĞÜŞİÖÇ ışığı çığlık; İÇİN",
        "Bệnh tiểu đường thường gặp ở người lớn ưởi.",
        # Russian with capitals inside of words, Ukrainian, Serbian, Greek capitals, Persian
        "мРНК-вакцины и рН крови, ВИЧ. «Ё» №5",
        "Їжа для під’їзду; ґанок, єдність",
        "Њега и љубав: џем, ђак, ћерка.",
        "ΠΟΙΑ ΕΙΝΑΙ ΤΑ ΣΥΜΠΤΏΜΑΤΑ; ΐ",
        "بیماری‌ها چگونه درمان می‌شوند؟",
        # signs
        "5 µg ± 2 °C, m², x³, ½, 10 €, ™ © ® ¶ § † ‡ ♀ ┌─┐ █ ▒",
        "ﬁrst naïve façade; 3′ 5″ ≥ ≤ → ←",
    ],
)
def test_right_texts_of_more_languages_stay_and_are_not_told_of(text: str) -> None:
    assert mojibake(text) == text
    assert not looks_garbled(text)


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("Odpočinek a teplá voda, při horečce zajděte k lékaři.", "cp1250"),
        ("Są to objawy choroby, którą leczy się w domu. Należy pić wodę.", "cp1250"),
        ("Ilık su için ve dinlenin, ağrı geçmezse doktora başvurun.", "cp1254"),
    ],
)
def test_letters_of_a_page_that_was_taken_for_windows_1252_are_put_back(text: str, page: str) -> None:
    assert mojibake(text.encode(page).decode("cp1252")) == text
    assert mojibake(text) == text


def test_a_lone_capital_among_right_letters_is_no_garbled_text() -> None:
    text = "Ân, Ângela e Â são nomes; a Ã é uma letra."
    assert mojibake(text) == text
    assert not looks_garbled(text)
    assert looks_garbled("Ã la carte")


@pytest.mark.parametrize(
    ("shown", "right"),
    [
        ("Il est Ã l'hÃ´pital, dÃ©jÃ  malade", "Il est à l'hôpital, déjà malade"),
        ("La cittÃ . La qualitÃ Ã¨ buona", "La città. La qualità è buona"),
        ("â€œokâ€ he said", "“ok” he said"),
        ("the patientâ€™s â€œpainâ€", "the patient’s “pain”"),
    ],
)
def test_lost_bytes_beside_garbled_letters_are_put_back(shown: str, right: str) -> None:
    assert mojibake(shown) == right


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("the patientâ€s cafÃ©", '"patientâ€s cafÃ©"'),
        ("Ã la carte", '"Ã la carte" (perhaps "à la carte")'),
        ("plain", ""),
    ],
)
def test_a_text_of_which_a_part_cannot_be_repaired_stays_as_it_is_and_is_told(text: str, told: str) -> None:
    assert mojibake(text) == text
    assert garbled_words(text) == told
