"""Who asks and who answers, by the names that files give them: of chats, of a practice, and of lists of questions.

Names only; what is said is taken apart by ``exchanges``.
"""

from __future__ import annotations

import re
import unicodedata

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"

# English, German, French, Spanish, Catalan, Italian, Portuguese, Dutch, Swedish, Danish, Norwegian, Finnish, Polish,
# Czech, Slovak, Romanian, Hungarian, Turkish, Russian, Ukrainian, Greek, Arabic, Hebrew, Persian, Hindi, Indonesian,
# Vietnamese, Thai, Chinese, Japanese, Korean.
_ASKS = """user human prompter question patient client customer q instruction prompt asker
frage kunde kundin patientin nutzer nutzerin benutzer benutzerin mensch klient klientin anweisung
utilisateur utilisatrice patiente usager consigne pregunta paciente usuario usuaria instrucción pacient domanda paziente
utente istruzione pergunta usuário usuária vraag patiënt gebruiker fråga användare spørgsmål bruger spørsmål bruker
pasient kysymys potilas käyttäjä pytanie pacjent pacjentka użytkownik otázka pacientka uživatel používateľ întrebare
pacientă utilizator kérdés beteg páciens felhasználó soru hasta kullanıcı вопрос пациент пациентка пользователь питання
пацієнт пацієнтка користувач ερώτηση ασθενής χρήστης سؤال مريض المريض مستخدم שאלה מטופל משתמש پرسش بیمار کاربر
प्रश्न सवाल मरीज मरीज़ रोगी उपयोगकर्ता pertanyaan pasien pengguna คำถาม ผู้ป่วย ผู้ใช้
问题 问 提问 病人 患者 用户 使用者 質問 问诊者 利用者 ユーザー 질문 환자 사용자"""
_ANSWERS = """assistant gpt bot model answer ai chatgpt chatbot doctor physician therapist counselor counsellor nurse
expert clinician response a output reply completion dr
antwort berater beraterin arzt ärztin doktor assistent assistentin therapeut therapeutin modell ausgabe
réponse médecin docteur docteure assistante thérapeute respuesta médico médica doctora asistente terapeuta resposta
metge metgessa risposta medico dottore dottoressa assistente doutor doutora antwoord arts dokter svar läkare læge lege
vastaus lääkäri avustaja odpowiedź lekarz lekarka doktorka asystent odpověď odpoveď lékař lékařka lekár lekárka asistent
răspuns doctoriță asistentul válasz orvos doktornő asszisztens cevap yanıt hekim asistan ответ врач доктор ассистент
відповідь лікар лікарка асистент απάντηση γιατρός βοηθός جواب إجابة الجواب طبيب الطبيب دكتور مساعد תשובה רופא רופאה עוזר
پاسخ پزشک دکتر دستیار उत्तर जवाब डॉक्टर चिकित्सक सहायक jawaban asisten คำตอบ แพทย์ หมอ ผู้ช่วย
回答 答案 答 医生 大夫 医師 医者 助手 助理 先生 アシスタント 답변 의사 어시스턴트 도우미"""
_MORE = {
    **dict.fromkeys(("câu hỏi", "bệnh nhân", "người dùng"), USER),
    **dict.fromkeys(("trả lời", "bác sĩ", "trợ lý"), ASSISTANT),
    **dict.fromkeys(("system", "developer"), SYSTEM),
}
ROLES = {**dict.fromkeys(_ASKS.split(), USER), **dict.fromkeys(_ANSWERS.split(), ASSISTANT), **_MORE}
"""The names, folded, and what each of them is."""

NAMES = "|".join(re.escape(name) for name in sorted(ROLES, key=len, reverse=True))
"""The names as a regular expression, to be matched without regard to case."""


def role_of(name: str) -> str:
    """Return what a name stands for, ``USER``, ``ASSISTANT`` or ``SYSTEM``; empty where it is not known."""
    return ROLES.get(unicodedata.normalize("NFC", name).strip().casefold(), "")
