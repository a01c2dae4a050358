"""Older encodings: each text is read as it is or refused; never other letters without a word."""

import random
import re
import string
import sys
from pathlib import Path

import pytest

from helpers.limits import processor_limit
from medqa_cli.data.encodings.code_pages import Reading, deciding_words
from medqa_cli.data.encodings.detect import detect_encoding
from medqa_cli.data.reading.shapes import ColumnNames
from medqa_cli.data.reading.sources import open_sources
from medqa_cli.errors import InputError

# fmt: off
# Rows of question and answer as people write them, without a comma or quote in them.
ROWS = {
    "en": ["Is Ménière’s disease rare?|Usually – yes. It is a disease of the ear.",
           "At 38 °C?|No: 5 µg at 2–8 °C.",
           "What is a café-au-lait spot?|A “spot” on the skin of ± 5 mm.",
           "Is it naïve to rest?|Rest and fluids help."],
    "fr": ["Quels sont les symptômes de la goutte ?|Une douleur très forte à l'orteil.",
           "Faut-il jeûner ?|Non.",
           "Où a-t-on mal ?|Au cœur et à la tête.",
           "Est-ce héréditaire ?|Ça dépend de la maladie et de l'âge."],
    "de": ["Was hilft gegen Übelkeit?|Ruhe und Tee. Größere Mahlzeiten meiden.",
           "Ist die Krankheit häufig?|Ja.",
           "Wie wirkt die Spritze?|Sie schützt für Jahre.",
           "Was macht der Arzt?|Er prüft die Füße und hört zu."],
    "es": ["¿Cuáles son los síntomas?|La fiebre y la tos del niño.",
           "¿Cómo se trata el asma?|Con un inhalador.",
           "¿Duele el corazón?|Sí y también el estómago.",
           "¿Qué debo comer?|Frutas y verduras en otoño."],
    "sv": ["Är sjukdomen ärftlig?|Nej den är inte det.",
           "Vad hjälper mot värk?|Vila och vätska.",
           "När får jag gå hem?|Efter två dagar på sjukhuset.",
           "Hur ställs diagnosen?|Med blodprov från armen."],
    "pl": ["Jakie są objawy?|Ból głowy i gorączka.",
           "Jak leczyć kaszel?|Należy pić ciepłą wodę.",
           "Czy choroba jest dziedziczna?|Nie jest to możliwe u dzieci.",
           "Co się dzieje w wątrobie?|Może być zapalenie."],
    "cs": ["Jaké jsou příznaky?|Bolest hlavy a horečka.",
           "Jak se léčí kašel?|Pijte hodně teplé vody.",
           "Je nemoc dědičná?|Ne a není to možné ani u dětí.",
           "Co dělat při průjmu?|Pokud trvá déle je třeba k lékaři."],
    "hu": ["Melyek a tünetek?|A fejfájás és a láz.",
           "Hogyan kezelik az asztmát?|Egy belélegzett szerrel és nem mással.",
           "Örökletes a betegség?|Nem az.",
           "Mi történik a tüdőben?|A hörgők összehúzódnak hogy ne jusson be por."],
    "tr": ["Hastalığın belirtileri nelerdir?|Baş ağrısı ve ateş.",
           "Astım nasıl tedavi edilir?|Bir ilaç ile.",
           "Kalıtsal mıdır?|Hayır ama çok sık görülür.",
           "Ne zaman doktora gidilir?|Ağrı üç gün sürerse."],
    "ru": ["Как лечить ангину?|Полоскание и таблетки для горла.",
           "Что такое гастрит?|Воспаление слизистой оболочки.",
           "Нужно ли пить антибиотики?|Только если их назначил врач.",
           "Как снизить жар?|Пейте больше жидкости."],
    "el": ["Ποια είναι τα συμπτώματα;|Πόνος και πυρετός.",
           "Πώς θεραπεύεται το άσθμα;|Με εισπνεόμενα φάρμακα.",
           "Είναι κληρονομική η νόσος;|Όχι αλλά είναι συχνή.",
           "Τι κάνει ο γιατρός;|Ζητά εξέταση αίματος."],
    "he": ["מהם התסמינים של המחלה?|כאב ראש וחום.",
           "איך מטפלים באסתמה?|בעזרת משאף ותרופות.",
           "האם המחלה תורשתית?|לא אבל היא שכיחה.",
           "מה עושה הרופא?|הוא מזמין בדיקת דם."],
    "ar": ["ما هي أعراض المرض؟|الصداع والحمى.",
           "كيف يعالج الربو؟|بالأدوية التي تستنشق.",
           "هل المرض وراثي؟|لا ولكنه شائع.",
           "ماذا يفعل الطبيب؟|يطلب فحص الدم."],
    "th": ["โรคหืดรักษาอย่างไร|ใช้ยาสูดพ่นทุกวัน",
           "โรคนี้ถ่ายทอดทางพันธุกรรมหรือไม่|ไม่แต่พบได้บ่อย",
           "ควรทำอย่างไรเมื่อมีไข้|ดื่มน้ำมากๆและพักผ่อน",
           "แพทย์ทำอะไร|แพทย์สั่งตรวจเลือด"],
    "zh": ["高血压患者能喝咖啡吗？|每天一小杯通常没有问题。",
           "感冒要吃抗生素吗？|不需要。多休息、多喝水即可。",
           "孩子发烧怎么办？|先量体温，超过39度请就医。",
           "失眠有什么办法？|固定时间起床，睡前不看手机。"],
    "zh-TW": ["高血壓患者能喝咖啡嗎？|每天一小杯通常沒有問題。",
           "感冒要吃抗生素嗎？|不需要。多休息、多喝水即可。",
              "孩子發燒怎麼辦？|先量體溫，超過39度請就醫。",
           "失眠有什麼辦法？|固定時間起床，睡前不看手機。"],
    "ja": ["風邪に抗生物質は必要ですか？|必要ありません。水を飲んで休みましょう。",
           "子供の熱はどうすればいいですか？|まず体温を測ります。",
           "血圧はいつ測りますか？|毎朝、家で測ってください。",
           "スイカを食べられますか？|少量なら食べられます。"],
    "ko": ["감기에 항생제가 필요한가요?|필요하지 않습니다. 물을 많이 마시세요.",
           "아이가 열이 나면 어떻게 하나요?|먼저 체온을 재세요.",
           "혈압은 언제 재나요?|매일 아침 집에서 재세요.",
           "수박을 먹어도 되나요?|조금은 괜찮습니다."],
}
# fmt: on
OLDER = {
    "en": ("cp1252", "mac_roman"),
    "fr": ("cp1252", "iso8859_15", "mac_roman"),
    "de": ("cp1252", "latin-1", "mac_roman", "cp850"),
    "es": ("cp1252", "mac_roman", "cp850"),
    "sv": ("cp1252", "mac_roman"),
    "pl": ("cp1250", "iso8859_2", "cp852"),
    "cs": ("cp1250", "iso8859_2"),
    "hu": ("cp1250", "iso8859_2", "cp852", "mac_latin2"),
    "tr": ("cp1254", "cp857"),
    "ru": ("cp1251", "koi8_r", "iso8859_5", "cp866"),
    "el": ("cp1253", "iso8859_7", "cp737"),
    "he": ("cp1255", "cp862"),
    "ar": ("cp1256",),
    "th": ("cp874",),
    "zh": ("gb18030",),
    "zh-TW": ("big5",),
    "ja": ("cp932", "euc_jp", "iso2022_jp"),
    "ko": ("cp949",),
}
CASES = [(language, codec) for language, codecs in OLDER.items() for codec in codecs]


def table(language: str, rows: int) -> str:
    lines = [ROWS[language][number % 4].replace("|", "\t") for number in range(rows)]
    return "\n".join(["question\tanswer", *lines, ""])


def text_of(path: Path, wanted: str | None = None) -> str:
    encoding = detect_encoding(path, path.name, wanted)
    return path.read_text(encoding=encoding.codec, errors=encoding.errors)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("rows", [10, 200])
@pytest.mark.parametrize(("language", "codec"), CASES)
def test_a_text_in_an_older_encoding_is_read_as_it_is(tmp_path: Path, language: str, codec: str, rows: int) -> None:
    text = table(language, rows)
    path = write(tmp_path / "qa.tsv", text.encode(codec))
    assert text_of(path) == text
    assert text_of(path, codec) == text


@pytest.mark.parametrize(("language", "codec"), CASES)
def test_a_few_rows_are_read_as_they_are_or_refused_with_the_right_encoding(
    tmp_path: Path, language: str, codec: str
) -> None:
    for rows in (1, 2):
        text = table(language, rows)
        path = write(tmp_path / f"{rows}.tsv", text.encode(codec))
        try:
            readings = [text_of(path)]
        except InputError as error:
            offered = re.findall(r'(\w+) reads "', error.message)
            readings = [path.read_bytes().decode(name, "replace") for name in offered]
        assert text in readings


ENGLISH = "What is gout?\tIt is a disease of the joints that causes pain in the foot.\n" * 9


@pytest.mark.parametrize(
    ("name", "codec", "wrong"),
    [("Wałęsa", "cp1250", "Wa│Ûsa"), ("Gałązka", "cp1250", "Ga³¹zka"), ("Wałęsa", "cp852", "Waê®sa")],
)
def test_one_name_that_windows_1252_cannot_read_is_shown_and_refused(
    tmp_path: Path, name: str, codec: str, wrong: str
) -> None:
    path = write(tmp_path / "qa.tsv", f"question\tanswer\n{ENGLISH}Who was {name}?\tA doctor.\n".encode(codec))
    with pytest.raises(InputError) as error:
        text_of(path)
    assert f'with certainty: {codec} reads "{name}"' in error.value.message
    assert f'"{wrong}"' in error.value.message
    assert f"(perhaps {codec})" in error.value.hint
    assert text_of(path, codec).count(name) == 1
    assert detect_encoding(path, "qa.tsv", codec).warnings == ()


@pytest.mark.parametrize(
    ("name", "codec", "shown"),
    [
        ("Wyszyński", "cp1250", 'cp1252 reads "Wyszyñski", cp1250 reads "Wyszyński"'),
        ("Yıldız", "cp1254", 'cp1252 reads "Yýldýz", cp1254 reads "Yıldız"'),
        ("Zuñiga", "cp1252", 'cp1252 reads "Zuñiga", cp1250 reads "Zuńiga"'),
    ],
)
def test_one_name_that_reads_well_in_two_encodings_is_shown_in_both(
    tmp_path: Path, name: str, codec: str, shown: str
) -> None:
    path = write(tmp_path / "qa.tsv", f"question\tanswer\n{ENGLISH}Who was {name}?\tA doctor.\n".encode(codec))
    (warning,) = detect_encoding(path, "qa.tsv").warnings
    assert shown in warning
    assert warning.endswith("name the one that is right: --set data.encoding=NAME")


@pytest.mark.parametrize(
    ("words", "codec", "taken"),
    [
        # One Czech name in English: Windows-1252 reads letters that no language has in one word.
        ("Dvořák", "cp1250", True),
        ("Jiří", "cp1250", True),
        # Terms that are known, and not so as Windows-1252 reads them.
        ("señor jalapeño", "mac_roman", True),
        # Letters of several languages that each make a word: both are named.
        ("Kovačič", "cp1250", False),
        ("Erdős", "cp1250", False),
        ("Ödön", "mac_roman", False),
    ],
)
@pytest.mark.parametrize("rest", [ENGLISH, ENGLISH * 9])
def test_a_few_words_of_another_page_in_english_are_read_or_shown_in_both(
    tmp_path: Path, words: str, codec: str, taken: bool, rest: str
) -> None:
    path = write(tmp_path / "qa.tsv", f"question\tanswer\n{rest}What is {words}?\tA word.\n".encode(codec))
    (warning,) = detect_encoding(path, "qa.tsv").warnings
    assert (words in text_of(path)) == taken
    assert words.split()[0] in warning
    assert "--set data.encoding=NAME" in warning


@pytest.mark.parametrize(
    ("words", "codec"), [("Nagy László", "mac_roman"), ("Ørsted Åse", "cp850"), ("Ørsted Åse", "mac_roman")]
)
def test_names_in_french_without_accents_are_shown_as_both_pages_read_them(
    tmp_path: Path, words: str, codec: str
) -> None:
    french = "Comment traiter la toux ?\tAvec du repos et des boissons chaudes pour le malade.\n" * 9
    path = write(tmp_path / "qa.tsv", f"question\tanswer\n{french}Qui est {words} ?\tUn docteur connu.\n".encode(codec))
    (warning,) = detect_encoding(path, "qa.tsv").warnings
    assert all(word in warning for word in words.split() if not word.isascii())
    assert {"mac_roman reads", "cp850 reads"} <= set(re.findall(r"\w+ reads", warning))


@pytest.mark.parametrize("rows", [4, 12, 200])
@pytest.mark.parametrize("language", ["ru"])
def test_maccyrillic_is_not_read_with_letters_of_serbian(tmp_path: Path, language: str, rows: int) -> None:
    text = table(language, rows)
    assert text_of(write(tmp_path / "qa.tsv", text.encode("mac_cyrillic"))) == text


def test_letters_of_serbian_stay(tmp_path: Path) -> None:
    text = "question\tanswer\nШта је грозница?\tЉуди је имају када је њихово тело топло. Џабе је чекати, ђаче.\n" * 4
    assert text_of(write(tmp_path / "qa.tsv", text.encode("cp1251"))) == text


def test_no_reading_has_signs_for_letters_in_a_rare_page(tmp_path: Path) -> None:
    content = f"question\tanswer\n{ENGLISH}Who was Dvořák?\tA composer.\n".encode("cp852")
    with pytest.raises(InputError, match='cp852 reads "Dvořák"'):
        text_of(write(tmp_path / "qa.tsv", content))


def test_candidates_stand_in_the_order_of_how_common_they_are(tmp_path: Path) -> None:
    content = f"question\tanswer\n{ENGLISH}Who were Yıldız and Şahin?\tDoctors.\n".encode("cp1254")
    with pytest.raises(InputError) as error:
        text_of(write(tmp_path / "qa.tsv", content))
    offered = re.findall(r"(\w+) reads \"", error.value.message)
    in_use = [codec for codec in offered if codec in ("cp1252", "cp1250", "cp1254", "cp1257", "cp1258")]
    # Behind them those in which the names have letters that no language has together.
    assert in_use == ["cp1252", "cp1254", "cp1250", "cp1257", "cp1258"]
    assert "(perhaps cp1252)" in error.value.hint


@pytest.mark.parametrize("name", ["Ménière", "naïve", "señor", "Sjögren", "café", "Behçet’s"])
def test_a_term_of_english_texts_in_windows_1252_needs_no_warning(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "qa.tsv", f"question\tanswer\n{ENGLISH}What is {name}?\tA word.\n".encode("cp1252"))
    assert name in text_of(path)
    assert detect_encoding(path, "qa.tsv").warnings == ()


SIGNS = [
    "Between 18.5 and 25 kg/m².",
    "Above 38 °C, the patient’s skin is hot.",
    "It’s the filtration rate in ml/min/1.73 m².",
    "Count 10³/mm³",
    "H¹ and N² and O³.",
    "½ to 1 tablet – at night.",
    "Take ¾ cup – no more than 1½ cups.",
    "Take ½ tablet, then ¼ tablet, at 37 °C; 5 µg.",
    "Don’t take more than ½ tablet.",
    "25 kg/m² in Prosper Ménière’s day.",
    "150–400 × 10³/µl",
    "1¼ inch",
    "1½",
    "H²O",
    "Advil® and Tylenol™ • rest • fluids",
    "Rest — then “walk” … 6 ÷ 2, ± 3 · 5",
]


@pytest.mark.parametrize("rows", [0, 9])
@pytest.mark.parametrize("sign", SIGNS)
def test_signs_of_medical_english_in_windows_1252_are_read_without_a_word(tmp_path: Path, sign: str, rows: int) -> None:
    text = "question\tanswer\n" + ENGLISH[: len(ENGLISH) // 9 * rows] + f"How much is it?\t{sign}\n"
    path = write(tmp_path / "qa.tsv", text.encode("cp1252"))
    assert text_of(path) == text
    assert detect_encoding(path, "qa.tsv").warnings == ()


@pytest.mark.parametrize("sign", SIGNS)
def test_one_line_of_windows_1252_among_utf8_keeps_its_signs(tmp_path: Path, sign: str) -> None:
    text, line = table("en", 4), f"How much is it?\t{sign}\n"
    path = write(tmp_path / "qa.tsv", text.encode() + line.encode("cp1252"))
    assert text_of(path) == text + line


@pytest.mark.parametrize(
    "row",
    [
        "Quelle est la dose ?\tPrenez ½ comprimé, à 37 °C, 25 kg/m².",
        "Wie ist der Wert?\tDas Gewicht durch die Größe² in kg/m².",
        "¿Cuál es la dosis?\t½ comprimido y 25 kg/m².",
    ],
)
def test_signs_in_other_languages_of_windows_1252(tmp_path: Path, row: str) -> None:
    assert text_of(write(tmp_path / "qa.tsv", f"question\tanswer\n{row}\n".encode("cp1252"))).endswith(f"{row}\n")


def test_a_line_of_another_language_than_those_of_utf8_keeps_its_letters(tmp_path: Path) -> None:
    line = "Was tun bei Fieber?\tViel trinken, Wärme meiden, Kühlung genießen.\n"
    path = write(tmp_path / "qa.tsv", table("fr", 4).encode() + line.encode("cp1252"))
    assert text_of(path) == table("fr", 4) + line


def test_lines_of_letters_that_are_in_doubt_are_refused_and_not_lost(tmp_path: Path) -> None:
    line = "Hastalığın belirtileri nelerdir?\tBaş ağrısı ve ateş.\n"
    path = write(tmp_path / "qa.tsv", table("en", 4).encode() + line.encode("cp1254"))
    with pytest.raises(InputError, match="no older encoding reads it with certainty"):
        text_of(path)


@pytest.mark.parametrize("term", ["α-synuclein", "β-blockers", "TNF-α"])
def test_a_greek_letter_of_a_term_in_english_is_shown_and_not_read_with_an_accent(tmp_path: Path, term: str) -> None:
    text = f"question\tanswer\n{ENGLISH}What about {term}?\tIt is a term.\n"
    path = write(tmp_path / "qa.tsv", text.encode("cp1253"))
    with pytest.raises(InputError, match=f'cp1253 reads "{term.strip(string.ascii_letters + "-")}"'):
        text_of(path)


def test_a_named_encoding_that_makes_no_sense_is_doubted_with_the_words(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.tsv", table("hu", 8).encode("cp852"))
    assert detect_encoding(path, "qa.tsv", "cp852").warnings == ()
    (warning,) = detect_encoding(path, "qa.tsv", "cp437").warnings
    assert warning.startswith("qa.tsv: as data.encoding says, cp437 reads ")
    assert ', where cp852 reads "' in warning
    assert warning.endswith("look at the rows, and at --set data.encoding=cp852")
    for language, codec in CASES:
        path = write(tmp_path / f"{language}_{codec}.tsv", table(language, 8).encode(codec))
        assert detect_encoding(path, "x", codec).warnings == (), (language, codec)


@pytest.mark.parametrize(
    ("sentence", "codec", "named"),
    [
        ("Take 25 kg/m².", "cp1252", "mac_roman"),
        ("Take ½ tablet.", "cp1252", "iso8859_15"),
        ("Don’t take ½ tablet.", "cp1252", "mac_latin2"),
        ("Take Wałęsa and Gałązka.", "cp1250", "mac_roman"),
    ],
)
def test_a_named_encoding_that_makes_odd_signs_of_ordinary_ones_is_doubted(
    tmp_path: Path, sentence: str, codec: str, named: str
) -> None:
    text = f"question\tanswer\n{ENGLISH}How much?\t{sentence}\n"
    path = write(tmp_path / "qa.tsv", text.encode(codec))
    (warning,) = detect_encoding(path, "qa.tsv", named).warnings
    assert warning.endswith(f"--set data.encoding={codec}")
    assert detect_encoding(path, "qa.tsv", codec).warnings == ()


def test_letters_that_are_valid_utf8_by_chance_join_no_files(tmp_path: Path) -> None:
    text = table("cs", 4) + "Co je úžeh?\tÚžeh je přehřátí těla.\nOtok?\tÚžeh.\n"
    path = write(tmp_path / "qa.tsv", text.encode("cp1250"))
    assert text_of(path) == text
    found = detect_encoding(path, "qa.tsv")
    assert (found.description, len(found.warnings)) == ("Windows-1250", 1)
    assert "joined" not in found.warnings[0]


@pytest.mark.parametrize(("language", "codec"), [case for case in CASES if case[1] != "iso2022_jp"])
def test_each_line_of_joined_files_is_read_by_itself(tmp_path: Path, language: str, codec: str) -> None:
    text, rows = table(language, 8), "\n".join(table(language, 20).split("\n")[1:])
    for name, content in {
        "utf8_first": text.encode() + rows.encode(codec),
        "older_first": text.encode(codec) + rows.encode(),
    }.items():
        path = write(tmp_path / f"{name}.tsv", content)
        assert text_of(path) == text + rows
        assert "no UTF-8 (the first: line " in " ".join(detect_encoding(path, path.name).warnings)


def test_rows_of_utf8_among_more_of_windows_1252(tmp_path: Path) -> None:
    rows = [f"What helps against ailment {number}?\tRest at the Café {number}" for number in range(30)]
    head = "question\tanswer\n"
    content = (head + "".join(f"{row}\n" for row in rows[:10])).encode() + "\n".join(rows[10:]).encode("cp1252")
    path = write(tmp_path / "qa.tsv", content)
    assert text_of(path) == head + "\n".join(rows)
    found = detect_encoding(path, "qa.tsv")
    assert found.description == "UTF-8, 20 lines of it Windows-1252"
    assert found.warnings[0].startswith("qa.tsv: 20 lines of it are no UTF-8 (the first: line 12), as where files")


def test_both_encodings_in_one_line(tmp_path: Path) -> None:
    line = "Is Ménière rare?\t".encode() + "Rest at the café – yes.\n".encode("cp1252")
    assert text_of(write(tmp_path / "qa.tsv", line * 5)) == "Is Ménière rare?\tRest at the café – yes.\n" * 5


def test_a_character_of_utf8_that_was_cut_is_no_other_letter(tmp_path: Path) -> None:
    good = table("zh", 8).encode()
    assert (
        text_of(write(tmp_path / "qa.tsv", good + "感冒".encode()[:-1] + b"\tx\n")) == table("zh", 8) + "感\ufffd\tx\n"
    )


def test_a_german_quote_after_a_sharp_s_is_no_letter_of_utf8(tmp_path: Path) -> None:
    text = table("de", 8) + "Was ist „Spaß“?\tEtwas Schönes.\n"
    assert text_of(write(tmp_path / "qa.tsv", text.encode("cp1252"))) == text


def test_lines_in_several_older_encodings_are_refused(tmp_path: Path) -> None:
    content = (table("ru", 400) * 3).encode("cp1251") + (table("el", 400) * 3).encode("cp1253")
    with pytest.raises(InputError, match=r"no older encoding reads it with certainty|in several encodings"):
        text_of(write(tmp_path / "qa.tsv", content))


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_tells_the_encoding(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "qa.tsv", table("cs", 4).encode(codec))
    assert text_of(path) == text_of(path, codec) == table("cs", 4)


def test_the_named_encoding_is_that_of_every_text_file(tmp_path: Path) -> None:
    for name in ("a.csv", "b.tsv", "c.txt"):
        delimiter = "\t" if name == "b.tsv" else ";"
        write(tmp_path / name, table("pl", 1).replace("\t", delimiter).encode("cp775"))
    write(tmp_path / "d.jsonl", '{"question": "Jakie są objawy?", "answer": "Ból głowy"}'.encode("cp775"))
    for name in ("a.csv", "b.tsv", "c.txt", "d.jsonl"):
        rows = list(open_sources([str(tmp_path / name)], ColumnNames(encoding="cp775")).rows)
        assert [row.question for row in rows] == ["Jakie są objawy?"]


def test_a_file_that_is_not_in_the_named_encoding_is_told_with_line_and_offset(tmp_path: Path) -> None:
    content = table("de", 3).encode("cp1252")
    path = write(tmp_path / "qa.tsv", content)
    offset = content.index("Ü".encode("cp1252"))
    with pytest.raises(InputError) as error:
        text_of(path, "utf-8")
    assert error.value.message == (
        "qa.tsv:2 is not in the encoding that data.encoding names: utf-8 has no character for byte 0xdc at offset "
        f"{offset} of the file"
    )
    with pytest.raises(InputError, match=r"begins with the mark of UTF-16, but data.encoding says cp1251"):
        text_of(write(tmp_path / "b.tsv", table("de", 3).encode("utf-16")), "cp1251")
    found = detect_encoding(write(tmp_path / "c.tsv", table("de", 3).encode()), "c.tsv", "cp1252")
    assert found.warnings == ("c.tsv is valid UTF-8, but read as cp1252, as data.encoding says: look at the rows",)


def test_an_offset_far_into_the_file_is_exact(tmp_path: Path) -> None:
    content = "é".encode() * 600_000 + b"\n\xe9\n"
    with pytest.raises(InputError, match=r"x\.csv:2 .* byte 0xe9 at offset 1,200,001 "):
        text_of(write(tmp_path / "x.csv", content), "utf-8")


def test_a_line_of_megabytes_is_read_in_pieces(tmp_path: Path) -> None:
    text = "Ménière est à l'hôpital " * 200_000
    content = text.encode() + b"\nQui est l\xe0 ?\n"
    assert text_of(write(tmp_path / "x.txt", content)) == text + "\nQui est là ?\n"


def test_of_a_line_of_a_megabyte_a_part_around_its_letters_is_judged(tmp_path: Path) -> None:
    plain = "What is gout and what helps against it? " * 12_500
    text = plain + "Größere Mahlzeiten meiden und die Füße schützen, Übelkeit prüfen, häufig hören. " * 6000 + plain
    with processor_limit(3):
        assert text_of(write(tmp_path / "x.txt", text.encode("cp1252"))) == text


@pytest.mark.parametrize("begins", [b"", b"\xe6\x96" * 40_000], ids=["noise", "letters and a dash, then noise"])
def test_a_long_line_without_sense_is_refused_soon(tmp_path: Path, begins: bytes) -> None:
    noise = random.Random(1).randbytes(1 << 19 if not begins else 1 << 14)
    line = begins + noise.translate(None, b"\0\r\n")
    with processor_limit(20), pytest.raises(InputError, match="no older encoding reads it"):
        detect_encoding(write(tmp_path / "x.txt", b"question,answer\n" + line), "x.txt")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"What is gout?,gout\x1b$@ is a disease.\r\n", "UTF-8"),
        ("痛風とは何ですか？,尿酸が結晶になる病気です。\n".encode("iso2022_jp"), "ISO-2022-JP"),
    ],
)
def test_a_stray_sign_of_seven_bit_japanese_takes_no_words(tmp_path: Path, line: bytes, name: str) -> None:
    path = tmp_path / "qa.csv"
    path.write_bytes(b"question,answer\n" + line)
    assert detect_encoding(path, "qa.csv").description == name


JAPANESE_LINE = "痛風とは何ですか？,尿酸が結晶になる病気です。\n"


@pytest.mark.parametrize(
    "stray",
    [b"x\x1b$@", b"x\x1b$B\x1b(B", b"x\x1b(J", b"x\x1b$@ab", b"\x1b$@!\x1b(B", b"\x1b(J\x1b$B", "x\x1b$@é".encode()],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_stray_escape_sequence_takes_nothing_from_the_lines_behind_it(
    tmp_path: Path, stray: bytes, end: bytes
) -> None:
    for name, beside in {
        "UTF-8": "Gout?,It hurts \\ a Café.",
        "UTF-8, 1 line of it ISO-2022-JP": JAPANESE_LINE.strip(),
    }.items():
        codec = "iso2022_jp" if "2022" in name else "utf-8"
        path = write(tmp_path / "qa.csv", stray + end + beside.encode(codec) + end + b"a \\ b" + end)
        assert text_of(path).split("\n")[-3:] == [beside, "a \\ b", ""]
        assert detect_encoding(path, "qa.csv").description == name


def test_lines_of_seven_bit_japanese_among_utf8_are_read_each_by_itself(tmp_path: Path) -> None:
    rows = ["question,answer\n", "Was ist Gicht?,Ein Übel.\n", JAPANESE_LINE, "Café?,Nein.\n"]
    codecs = ["ascii", "utf-8", "iso2022_jp", "utf-8"]
    content = b"".join(row.encode(codec) for row, codec in zip(rows, codecs, strict=True))
    path = write(tmp_path / "qa.csv", content)
    assert text_of(path) == "".join(rows)
    assert detect_encoding(path, "qa.csv").warnings == (
        "qa.csv: 1 line of it is ISO-2022-JP (the first: line 3): look at them",
    )


def test_seven_bit_japanese_that_ends_its_lines_in_roman_letters_keeps_backslashes(tmp_path: Path) -> None:
    line = JAPANESE_LINE.encode("iso2022_jp").replace(b"\x1b(B\n", b"\x1b(J\n")
    path = write(tmp_path / "qa.csv", b"question,answer\n" + line + b"a \\ b\n")
    assert text_of(path) == f"question,answer\n{JAPANESE_LINE}a \\ b\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer of a process's own time")
def test_words_that_two_encodings_read_differently_are_found_behind_a_long_plain_one() -> None:
    """With a pattern that starts again at each of its letters the long one takes minutes."""
    data = b"x" * 300_000 + b" caf\xe9"
    one, other = (Reading(codec, data, data.decode(codec), 1.0) for codec in ("iso8859-1", "mac_roman"))
    with processor_limit(10):
        assert deciding_words(one, other) == [("café", "cafÈ")]
