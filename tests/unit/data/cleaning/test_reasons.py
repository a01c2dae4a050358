"""Which rows hold no answer, and which short answers are good ones."""

import csv
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import SHARED_DATA
from medqa_cli.data.cleaning.reasons import REASONS, SHOWN, enabled_reasons, non_answer
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.speakers import has_more_turns
from medqa_cli.errors import ConfigError

MEDQUAD = SHARED_DATA / "medquad/medquad_two_columns.csv"

LINKS = (
    "These resources address the diagnosis or management of arden:ine deficiency:\n- Gene Review: Ardent syndrome\n"
    "- A Society: How Is Ardent Syndrome Treated? These resources from a library offer information about health "
    "conditions:\n- Diagnostic Tests\n- Drug Therapy"
)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("How long have you had the flu?", "answer_is_question"),
        ("Why? How?", "answer_is_question"),
        ("Topics", "stub"),
        ("Frequently Asked Queestions (FAQs)", "stub"),
        ("Frequently Asked Questions (FAQs)\n\nFact Sheets", "stub"),
        ("Summary:", "stub"),
        ("- Overview\n- References", "stub"),
        ("N/A", "stub"),
        ("n.a.", "stub"),
        ("TBD", "stub"),
        ("Pendiente.", "stub"),
        ("siehe oben", "stub"),
        ("Not available.", "stub"),
        ("-", "stub"),
        ("...", "stub"),
        ("?", "stub"),
        ("See above.", "stub"),
        ("see Table 3", "stub"),
        ("See the summary about Ardent Syndrome Treatment for information.", "stub"),
        (LINKS, "link_list"),
        (LINKS.replace("\n- ", "  - "), "link_list"),
        ("http://a.org/b", "link_list"),
        ("- https://a.org\n- www.b.org/c?d=e", "link_list"),
        ("More detailed information on heart failure is available at http://a.org/b.", "link_list"),
    ],
)
def test_rows_without_an_answer(answer: str, reason: str) -> None:
    assert non_answer("What is flu?", answer, REASONS) == reason


@pytest.mark.parametrize(
    "answer",
    [
        "Yes.",
        "No",
        "None.",
        "Unknown",
        "Vitamin C",
        "5 mg",
        "Na+",
        "Autosomal recessive",
        "BRCA1",
        "+",
        "38 °C",
        "ऑक्सीजन",
        "See a doctor right away.",
        "See your doctor about the link to diabetes.",
        "Go to the emergency room at the hospital.",
        "Key points of the hip are two.",
        "Flu is viral. Do you have it?",
        "Ask these questions:\n- Is it safe?",
        "Topics are creams.",
        "These resources address flu: rest and water.",
        "These resources address flu:\n- Rest helps. Drink water as well.",
        f"Surgery is the first choice.\n\n{LINKS}",
        "Call the clinic (www.a.org) before you come.",
    ],
)
def test_short_and_odd_answers_are_kept(answer: str) -> None:
    assert non_answer("What is flu?", answer, REASONS) is None


@given(st.text(max_size=40) | st.lists(st.sampled_from([*" -.?:\n", "Topics", "http://a", LINKS])).map("".join))
def test_any_text_is_judged(answer: str) -> None:
    assert non_answer("q", answer, REASONS) in (None, *SHOWN)


@pytest.mark.parametrize("piece", [" ", "?", "- ", "(", "www.", "See the ", "These resources a: ", "\n"])
def test_long_texts_are_judged(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert non_answer("q", f"A drug helps.{text}", REASONS) is None
    assert non_answer("q", f"{LINKS}{text}It helps.", REASONS) is None


@pytest.mark.skipif(not MEDQUAD.exists(), reason=f"no file {MEDQUAD}")
def test_medquad_is_rejected_by_exact_counts() -> None:
    """Exact counts; the reference counts 17 questions, 6 stubs and 1,085 lists of its one form."""
    rules = enabled_rules({})
    reasons: Counter[str | None] = Counter()
    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cleaned = clean(row["question"], row["answer"], rules)
            reasons[non_answer(cleaned.question, cleaned.answer, enabled_reasons({}))] += 1
    assert reasons == {None: 15295, "link_list": 1089, "answer_is_question": 17, "stub": 6}


@pytest.mark.parametrize(
    "answer",
    [
        "How old are you?",
        "Hi, how old are you?",
        "Do you have fever, cough, or chills?",
        "How long has this lasted, and does it hurt?",
        "疹子多久了？",
        "您好，请问孩子多大了？有没有发烧？",
        "¿Cuántos años tiene?",
        "Quel âge avez-vous ?",
        "Wie alt sind Sie?",
        "Сколько вам лет?",
        "Какие лекарства вы принимаете?",
        "Здравствуйте! Как давно у вас болит голова?",
        "Скільки вам років?",
        "Πόσων χρονών είστε;",
        "Από πότε έχετε πυρετό; Παίρνετε φάρμακα;",
        "Πόσο καιρό πονάει\u037e",
        "كم عمرك؟",
        "هل لديك حمى؟ منذ متى بدأ الألم؟",
        "आपकी उम्र क्या है?",
        "क्या आपको बुखार है? यह कब से है?",
        "آپ کی عمر کیا ہے؟",
        "شما چند سال دارید؟",
        "בן כמה אתה? האם יש לך חום?",
        "Kaç yaşındasınız?",
        "Ne zamandan beri ağrınız var?",
        "আপনার বয়স কত?",
        "คุณอายุเท่าไหร่?",
        "Bạn bao nhiêu tuổi?",
        "Berapa umur Anda?",
    ],
)
def test_nothing_but_a_question(answer: str) -> None:
    assert non_answer("Is it serious?", answer, REASONS) == "answer_is_question"


@pytest.mark.parametrize(
    "answer",
    [
        "This is most likely gout, have you eaten a lot of meat or seafood lately?",
        "i think this is reflux … i recommend you to take omeprazole 20 mg do you also have heartburn?",
        "take rest and drink water do you have fever?",
        "What you describe sounds like reflux, do you have heartburn?",
        "Do you smoke, it makes it worse, you know?",
        "伤口拆线前请保持干燥。可以用湿毛巾擦身。还有其他问题吗？",
        "可能是胃食管反流，您最近有反酸吗？",
        "多喝水！有没有发烧？",
        "水分を取ってください。熱はありますか？",
        "आराम करें और पानी पिएं। बुखार है?",
        "C'est peut-être la goutte, avez-vous mangé de la viande ?",
        "Puede ser gota, ¿ha comido carne?",
        "Das ist wohl Gicht, haben Sie viel Fleisch gegessen?",
        "Скорее всего, это подагра. Вы ели много мяса?",
        "Πρόκειται μάλλον για ουρική αρθρίτιδα· έχετε φάει πολύ κρέας;",
        "Πιείτε πολλά υγρά. Έχετε πυρετό;",
        "قد يكون هذا النقرس، هل تناولت الكثير من اللحوم؟",
        "اشرب الكثير من الماء. هل لديك حمى؟",
        "यह गठिया हो सकता है। क्या आपने बहुत मांस खाया है?",
    ],
)
def test_a_question_behind_advice_is_an_answer(answer: str) -> None:
    assert non_answer("Is it serious?", answer, REASONS) is None


@pytest.mark.parametrize(
    "question",
    [
        "What should I ask the surgeon before the operation?",
        "Which of the following questions is best? A. How old are you? B. Why?",
        "What is the most appropriate response by the nurse?",
        "Welche Frage stelle ich zuerst?",
        "看病时应该问什么？",
    ],
)
def test_a_question_that_asks_for_a_question_is_answered_by_one(question: str) -> None:
    assert non_answer(question, "How old are you?", REASONS) is None


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is Bell's palsy treatable?", "Is Bell's palsy treatable?"),
        ("What are the treatments for Bell's palsy?", "How might Bell's palsy be treated?"),
        ("Is atrophy X inherited?", "How is atrophy X (AX) inherited?"),
        ("高血压怎么办？", "高血压怎么办？"),
    ],
)
def test_the_question_said_again_is_no_answer(question: str, answer: str) -> None:
    assert non_answer(question, answer, REASONS) == "answer_is_question"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Can I take ibuprofen?", "Why not try paracetamol instead, as ibuprofen can irritate the stomach?"),
        ("Why is sleep important?", "Did you know that sleep repairs tissue? Did you know it aids memory?"),
        ("What might my midwife want to know?", "When was your last period? Do you smoke?"),
        ("My toe is swollen, what is it?", "Could it be gout?"),
        ("What is the diagnosis?", "Gout?"),
        ("How do I relieve a cough?", "Have you tried honey in warm water?"),
        ("How do I relieve a cough?", "Could honey relieve a cough?"),
        ("When should I see a doctor?", "Do you have chest pain, or are you short of breath?"),
        ("Is my bleeding heavy?", "Do you soak more than one pad an hour?"),
        ("Am I an alcoholic?", "Do you drink alone? Do you hide it? Do you feel guilty?"),
        ("Should I worry?", "Have you seen a dermatologist about it?"),
        ("Give me a line on weight.", "How do you feel about your weight?"),
        ("Wie sagt man das?", "Warum nicht einmal Honig versuchen?"),
        ("Was hilft?", "Haben Sie schon einmal Honig probiert?"),
        ("Comment calmer la toux ?", "Saviez-vous que le miel calme la toux ?"),
        ("¿Qué ayuda?", "¿Ha probado la miel?"),
        ("脚趾肿了是什么病？", "会不会是痛风？"),
        ("感冒了怎么办？", "为什么不多喝水、多休息呢？"),
        ("風邪のときは？", "水分を多く取ってみてはいかがですか？"),
        ("Что помогает?", "Почему бы не попробовать мёд?"),
        ("Болит палец, что это?", "Может быть, у вас подагра?"),
        ("Τι βοηθάει στον βήχα;", "Γιατί δεν δοκιμάζετε μέλι;"),
        ("Τι είναι;", "Μήπως έχετε ουρική αρθρίτιδα;"),
        ("ما الذي يهدئ السعال؟", "لماذا لا تجرب العسل؟"),
        ("ما هو التشخيص؟", "هل لديك نقرس ربما؟"),
        ("खांसी में क्या करें?", "आप शहद क्यों नहीं लेते?"),
        ("Öksürüğe ne iyi gelir?", "Neden bal denemiyorsunuz?"),
    ],
)
def test_advice_facts_and_lists_put_as_questions_are_answers(question: str, answer: str) -> None:
    assert non_answer(question, answer, REASONS) is None


TALK = "\nDoctor: How are you?\nPatient: My knee hurts."


@pytest.mark.parametrize(
    ("question", "answer", "more"),
    [
        ("My jaw hurts.", "We take an X-ray.Patient: Will that hurt?", True),
        ("My jaw hurts.", "We take an X-ray.\npatient: Will that hurt?", True),
        ("胃疼。", "可以。病人：要多久？", True),
        ("I cough.", "Drink tea. Patient: Thank you. Doctor: You are welcome.", True),
        ("I cough. Doctor: Since when? Patient: Monday.", "Rest.", True),
        ("I cough.", "Rest.\n### Instruction:\nNext", True),
        ("I cough.", f"Rest.{TALK}", True),
        ("I cough.", "Rest.", False),
        ("I cough.", "Ask your doctor: he knows. The patient: an old man.", False),
        ("My doctor said: wait.", "Patient: a man of 45", False),
        ("I told the doctor. Patient: me", "Rest.", False),
        ("Doctor: 45, GP. Patient: 23. What is wrong?", "They are friends.", False),
        ("Who is it?", "Terms. Patient: usually a child under five. Doctor: a paediatrician, who asks you.", False),
        ("Whom do I call?", "Take rest. Doctor: 555-0100", False),
        ("Give an example conversation.", f"Here it is.{TALK}", False),
        ("What is small talk?", f"It opens a visit. For example:{TALK}", False),
        ("q", "\n" * 200_000 + "Patient:", False),
        ("q", "\nPatient: " * 20_000, False),
    ],
)
def test_more_turns_than_a_question_and_an_answer_are_told(question: str, answer: str, more: bool) -> None:
    assert has_more_turns(question, answer) is more


def test_an_address_answers_where() -> None:
    assert non_answer("Where can I read more?", "https://a.org/b", REASONS) is None
    assert non_answer("What is flu?", "https://a.org/b", REASONS) == "link_list"


def test_one_word_answers() -> None:
    assert non_answer("What is the symbol of sodium?", "Na", REASONS) is None
    assert non_answer("What is flu?", "NA", REASONS) == non_answer("What is flu?", "na.", REASONS) == "stub"
    assert non_answer("Which?", "None", REASONS) == "none_answer"
    assert non_answer("Which?", "None", enabled_reasons({})) is None


def test_a_reason_can_be_switched_off_by_name() -> None:
    reasons = enabled_reasons({"answer_is_question": False, "exact_duplicate": False})
    assert non_answer("Is it serious?", "How old are you?", reasons) is None
    assert non_answer("Is it serious?", "N/A", reasons) == "stub"
    assert "exact_duplicate" not in reasons


def test_wrong_names_of_reasons_are_told_together() -> None:
    with pytest.raises(ConfigError) as error:
        enabled_reasons({"answer_is_questoin": False, "near_duplicate_of_test": False, "stub": True})
    assert error.value.problems == [
        "data.reasons.answer_is_questoin: no such reason; did you mean 'answer_is_question'?",
        "data.reasons.near_duplicate_of_test: cannot be switched off: without it the held-out rows are not held out; "
        "see data.near_duplicate_threshold",
    ]
    assert "'answer_is_question', 'stub', 'link_list'" in error.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        "Puede ser gota.\nPaciente: ¿Me va a doler?\nMédico: Un poco.",
        "Pode ser gota.\nPaciente: Obrigada, tenho dor.\nMédica: Descanse.",
        "Può essere gotta.\nPaziente: Mi farà male?\nMedico: Un po'.",
        "Это подагра.\nПациент: Мне будет больно?\nВрач: Немного.",
        "통풍일 수 있습니다.\n환자: 감사합니다.\n의사: 네.",
        "قد يكون النقرس.\nالمريض: شكرا.\nالطبيب: قليلا.",
        "यह गठिया हो सकता है।\nमरीज: धन्यवाद।\nडॉक्टर: आराम करें।",
        "Είναι ουρική.\nΑσθενής: Θα πονάω;\nΓιατρός: Λίγο.",
        "Là bệnh gút.\nBệnh nhân: Cảm ơn bác sĩ ạ.\nBác sĩ: Nghỉ.",
        "Probably a strain. User: thanks! Assistant: You're welcome.",
        "Rest it.\n**PATIENT:** Will it hurt me?",
    ],
)
def test_turns_are_found_in_each_language_of_the_speakers(answer: str) -> None:
    assert has_more_turns("What is it?", answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Escribe un diálogo.", "Paciente: ¿Me va a doler? Médico: Un poco. Paciente: Gracias."),
        ("¿Quién es?", "Es una palabra. Paciente: persona enferma. Médico: persona que cura."),
        ("How do I get rabies?", "From a bite. Human: wash your hands after it. Animal: keep it in."),
        ("What drugs?", "Two groups. Client: adults over 18. Model: my own."),
        ("مثال لحوار", "المريض: هل سيؤلمني؟ الطبيب: قليلا."),
    ],
)
def test_what_is_no_turn_in_other_languages(question: str, answer: str) -> None:
    assert not has_more_turns(question, answer)
