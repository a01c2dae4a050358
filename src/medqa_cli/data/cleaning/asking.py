"""Whether an answer only asks back or only says the question again, and whether a question may be answered by one.

In doubt an answer says something: what is thrown away here is lost, what is kept only costs a row. Advice put as a
question ("Why not try ...?"), a diagnosis ("Could it be gout?") and a list of questions are answers.
"""

from __future__ import annotations

import re

_LONGEST = 300  # characters; a longer text is more than a question
_MOST_QUESTIONS = 2  # more make a list, of signs to look for or of what to ask
_MOST_WORDS = 16  # of a sentence that asks back; a longer one tells something beside
_MOST_SIGNS = 40  # the same, in Chinese, Japanese or Korean signs
_CLOSING = "\"'”’»)）」』 \t\n"
_QUESTION_MARKS = ("?", "？", "؟", "⁇", "⸮")

# The question mark of Greek is a semicolon, behind a word in its letters.
_GREEK_QUESTION_MARK = re.compile("(?<=[\u0370-\u03ff\u1f00-\u1fff])[\u00bb\"')]*\\s?[;\u037e]")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")

# The ends of sentences. A full stop within a word or a number is none.
_SENTENCE = re.compile(r"[.!:](?=\s|$)|[。！：；;…।॥۔።။\n]|[?？؟]")
_CLAUSE = re.compile(r"[,，、،](?=\D)|\s[–—-]+\s|[–—]{2,}")
_ITEM = re.compile(r"(?:^|\n)\s*(?:[-*•–—]|\(?(?:\d{1,2}|[a-h])[.):])\s", re.IGNORECASE)

# A greeting or the like, which says nothing either.
_FILLER = re.compile(
    r"(?:hi|hello|hey|dear|good (?:morning|day|afternoon|evening)|welcome|thanks?|thank you|sorry|well|ok|okay|so"
    r"|and|but|also|now|then|please|bonjour|bonsoir|merci|alors|hallo|guten tag|danke"
    r"|hola|buenos d[ií]as|gracias|ciao|salve"
    r"|buongiorno|grazie|ol[áa]|bom dia|obrigad[oa])\b[^,.!?]{0,40}"
    r"|(?:здравствуй(?:те)?|добрый день|привет|спасибо|γεια σ(?:ας|ου)|καλημέρα|καλησπέρα|ευχαριστώ"
    r"|merhaba|xin chào|halo"
    r"|مرحبا|السلام عليكم|شكرا|سلام|नमस्ते|धन्यवाद|שלום|নমস্কার|สวัสดี)[^,،.!?؟।]{0,20}"
    r"|(?:您|你)好(?:[^，。！？]{0,8})?|请问|谢谢[^，。！？]{0,10}|嗯|哦|好的|こんにちは|すみません(?:が)?|안녕하세요",
    re.IGNORECASE,
)
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

# Who asks back wants to know something of the asker, or of what the asker told: "How old are you?", "Does it hurt?".
_LEAD = r"(?:(?:and|but|so|or|also|please|may i ask|can i ask|i would like to ask|do you mean)\b\W*)*"
_FOR = r"(?:(?:in|on|at|for|with|from|by|to|since|until|of)\s)?"
_OF_ASKER = (
    r"(?:you|your|he|she|his|her|they|their|(?:the|this|that|these|those) (?:\w+ )?(?:pains?|rash|lump|fever|cough"
    r"|child"
    r"|baby|symptoms?|problem|bleeding|swelling|headaches?|itch(?:ing)?))\b"
)
_OF_COMPLAINT = r"(?:it|this|that|these|they)\b"
_ASKS_BACK_IN_ENGLISH = re.compile(
    rf"{_LEAD}{_FOR}(?:"
    r"(?:why|how|who|where|when|since when|what(?: for| else| kind| exactly)?)(?: so| exactly| often| long| much"
    r"| many)?"
    r"|(?:how|which|what) (?:old|long|often|much|many|severe|bad|high|drugs?|dose|age|medicines?|medications?"
    r"|symptoms?)"
    r"(?: \w+)?|any(?: \w+){1,6}"
    rf"|(?:what|where|how|which|when|why|who)\b(?:\W+\w+){{0,4}}?"
    rf"\W+(?:do|did|are|were|have|has|had|is|was|does)\s{_OF_ASKER}.*"
    rf"|(?:where|how|when|since when)\b(?:\W+\w+){{0,2}}?\W+(?:did|has|is|was|does)\s{_OF_COMPLAINT}.*"
    rf"|(?:do|did|are|were|have|has|had|is|was|does)\s{_OF_ASKER}.*"
    rf"|does\s{_OF_COMPLAINT} (?:hurt|itch|bleed|burn|come|go|get|spread|feel|happen|last|move|smell)\b.*"
    rf"|has\s{_OF_COMPLAINT} (?:lasted|started|been|happened|changed|got|become|come|spread|grown)\b.*"
    r"|(?:is|are|was|were) there any\b.*"
    r"|(?:could|can|would|will) you (?:please )?(?:tell|describe|say|explain|specify|clarify|send|share|upload|give"
    r"|provide|elaborate)\b.*"
    r")",
    re.IGNORECASE | re.DOTALL,
)
# A question that tells something: advice, a reason, a fact.
_TELLS_IN_ENGLISH = re.compile(
    r"\b(?:why (?:not|don['’]?t)|how about|what about|what if|(?:do|did) you (?:know|reali[sz]e|think|believe)|aware"
    r"|have (?:you|they|he|she) (?:\w+ )?(?:tried|considered|thought|heard|asked|read|looked|talked|spoken|checked)"
    r"|have (?:you|they|he|she) (?:\w+ )?(?:seen|visited|consulted|contacted)|because|so that|such as|e\.g|for example"
    r"|want|wish|instead|rather|in order|which|that (?:can|may|could|would|is|are|helps?)|as (?:it|this|that|they"
    r"|the)\b"
    r"|as \w+ (?:can|may|could|is|are)|to (?:avoid|prevent|reduce|relieve|lower|ease|help|improve|rule|protect|stop)"
    r"|better|best|recommend\w*|suggest\w*|should|ought|need|must|try|trying|consider\w*|enough|regularly|daily"
    r"|too \w+|every (?:day|night|week)|by \w+ing|n['’]t|not|(?:more|less) than)\b|,\s+as\b|\d",
    re.IGNORECASE,
)
_WHICH_FIRST = re.compile(rf"{_LEAD}{_FOR}which\b", re.IGNORECASE)
# A clause behind a question that says something: "Do you smoke, it makes it worse".
_SAYS = re.compile(
    r"(?:i|it|this|that|these|those|he|she|they|we|there|you|your|the|take|try|use|drink|eat|avoid|see|stop|apply|rest"
    r"|consult|visit|go|get|keep|start|continue|if not|if so)\b(?!\s*\?)",
    re.IGNORECASE,
)
# Other languages: what asks back, and what of it tells something.
_ASKS_BACK_ELSEWHERE = re.compile(
    r"\w+-(?:vous|tu|il|elle)\b|\b(?:est-ce que (?:vous|tu|votre|la douleur)|depuis (?:quand|combien)|quel âge)\b"
    r"|\b(?:wie (?:alt|lange|oft|hoch|stark) (?:sind|ist|haben|hat|bist|dauer\w*)|seit wann"
    r"|(?:haben|hatten|sind|nehmen|rauchen|trinken|leiden|wo haben|was haben) sie|hast du|bist du|nimmst du)\b"
    r"|¿\s*(?:cuántos años|desde cuándo|cuánto tiempo|hace cuánto|dónde le|tiene|tienes|toma|fuma|siente|padece|está|ha"
    r" (?:tenido|tomado|comido|notado)|es usted|le duele)\b"
    r"|\b(?:da (?:quanto|quando)|quanti anni|(?:ha|hai|avete) (?:la|il|avuto|notato|preso|febbre|dolor\w+|anche)"
    r"|prende|soffre|fuma)\b"
    r"|\b(?:quantos anos|há quanto tempo|desde quando|(?:você|o senhor|a senhora) (?:tem|teve|toma|fuma|está|usa"
    r"|sente|é)\b|tem (?:febre|dor\w*|alergia\w*))\b"
    r"|\b(?:hoe (?:oud|lang)|sinds wanneer|(?:heeft|hebt|bent|gebruikt|rookt|slikt) (?:u|je))\b"
    r"|\b(?:jak długo|od kiedy|ile (?:ma|masz|lat)|czy (?:ma|masz|bierze|pali) ?(?:pan|pani)?)\b"
    r"|\b(?:сколько (?:вам|тебе|лет)|как давно|когда началось|есть ли (?:у|температура|боль)|у вас)\b"
    r"|\b(?:hur (?:gammal|länge)|sedan när|(?:har|är|tar|röker) (?:du|ni))\b"
    r"|\b(?:(?:как долго|давно ли|когда|где|что|какие|как часто|чем|сколько|болит ли|есть ли"
    r"|был[аи]? ли)\b.*\b(?:вы|вас"
    r"|вам|ваш[аеи]?|ты|тебя|тебе|началось|болит)|(?:вы|ты) (?:принима|кур|пь[её]т|пьешь|боле|страда|чувству"
    r"|измеря|дела)\w*"
    r"|є у вас|скільки вам|як давно|чи (?:є|приймає|маєте|болить))\b"
    r"|\b(?:πόσ(?:ων|ο|ες|η|α) (?:χρονών|ετών|καιρό|ώρα|μέρες|ημέρες|συχνά|χρόνια)|(?:τι|ποια) ηλικία|από πότε"
    r"|πότε (?:ξεκίνησ|άρχισ)\w*|πού (?:πονά|σας|ακριβώς)\w*|(?:έχετε|έχεις|είχατε|παίρνετε|παίρνεις|καπνίζετε|πίνετε"
    r"|πονάτε|νιώθετε|αισθάνεστε|πάσχετε))\b"
    r"|\b(?:kaç yaşında\w*|yaşınız kaç|ne (?:zaman(?:dan beri|dır)?|kadar süredir)|(?:ateş|ağrı|alerji"
    r"|hastalık|şikayet)\w* var mı"
    r"|kullanıyor mu\w*|içiyor mu\w*)\b"
    r"|كم (?:عمر|سن)|منذ (?:متى|كم)|متى بدأ|أين (?:الألم|يؤلم|تشعر)|هل (?:لديك|عندك|لديكم|تعان|تتناول|تدخن"
    r"|تشعر|تأخذ|كنت|أنت|سبق)"
    r"|ما (?:هو |هي )?(?:عمرك|سنك|الأعراض|أعراضك)"
    r"|چند سال|از (?:کی|چه زمانی)|چه مدت|آیا (?:شما|تب|درد|سابقه|دارو)|(?:دارید|می[‌ ]?کنید|می[‌ ]?خورید)\W*$"
    r"|(?:בן|בת) כמה|ממתי|כמה זמן|האם (?:יש לך|את|אתה|אתם)"
    r"|(?:आप(?:की|का|के|को)? .*(?:क्या|कितन|कब|कहाँ|कहां|कौन)|क्या (?:आप|यह दर्द|बुखार|दर्द)|कब से"
    r"|कितने (?:दिन|समय|साल|वर्ष)|कितनी उम्र)"
    r"|(?:আপনার? .*(?:কি|কত|কবে)|কত ?দিন|কবে থেকে)|(?:آپ (?:کی|کا|کو|کے)?.*(?:کیا|کتن|کب)|کب سے|کتنے (?:دن"
    r"|عرصے)|کیا آپ)"
    r"|(?:คุณ|อายุ).*(?:เท่าไ|กี่|ไหม|หรือ)|นานแค่ไหน|ตั้งแต่เมื่อไ"
    r"|\b(?:bạn|anh|chị|em|bé)\b.*\b(?:bao nhiêu|bao lâu|có .*không)\b|\b(?:berapa (?:umur|usia|lama)"
    r"|sejak kapan|apakah (?:anda|kamu))\b",
    re.IGNORECASE,
)
_TELLS_ELSEWHERE = re.compile(
    r"\b(?:pourquoi (?:ne )?pas|et si|sav(?:ez|iez)-vous|essay|pens[ée]|envisag|song[ée]|consult|parce|car|afin|pour"
    r"|warum nicht|wie wäre|wuss?ten|wissen|probiert|versucht|überleg|gedacht|schon (?:mal|einmal)|weil|damit|sollt"
    r"|por qué no|sabías?|proba|intent|consider|pensad|porque|perché|sape[vt]|prova|pensat|por que não|sab(?:e|ia)"
    r"|tent|experiment"
    r"|waarom niet|wist|geprobeerd|overwog|omdat|dlaczego nie|może|wie(?:sz|dzia)|prób|rozważ|ponieważ"
    r"|почему бы|знае|знал|проб|может|потому|чтобы|лучше|varför inte|visste|prova|pröva|testa|övervä|eftersom"
    r"|чому б|знаєте|спроб|тому що|щоб|краще|γιατί|μήπως|ίσως|δοκιμ|πρέπει|καλύτερα|επειδή|ξέρ\w*|σκεφτ"
    r"|neden olmasın|belki|dene|olabilir|çünkü|biliyor|mungkin|karena|coba|mengapa tidak)|\d"
    r"|لماذا لا|جرب|حاول|ربما|قد يكون|يجب|ينبغي|ينصح|تعلم|لأن|حتى|أفضل|فكرت|چرا|شاید|بهتر|امتحان|چون|می[‌ ]?دان"
    r"|למה לא|אולי|ניסית|נסה|כדאי|יודע|क्यों|शायद|सकत|चाहिए|बेहतर|सलाह|कोशिश|क्योंकि|जानते|ताकि|কেন|হয়তো|উচিত"
    r"|কারণ|চেষ্টা"
    r"|کیوں|شاید|چاہیے|بہتر|کوشش|جانتے|ทำไม|อาจ|ควร|ลอง|เพราะ|tại sao|có thể|nên|thử|vì",
    re.IGNORECASE,
)
_ASKS_BACK_IN_CJK = re.compile(
    r"多[久大长高重少]|几[岁天个年月次周]|什么时候|何时|有没有|有无|是否有|哪里(?:痛|疼|不)|什么(?:症状|药|病史|样的)"
    r"|(?:您|你|孩子|宝宝|患者|病人).*[吗呢？?]?|[做吃查用]过|有.{0,8}吗"
    r"|いつから|どこ[がに]|何歳|どのくらい|どれくらい|(?:は|が|も)あり(?:ます|ました)か|(?:して|飲んで)いますか"
    r"|언제부터|어디가|몇 ?살|얼마나|있(?:으신가요|나요|습니까)|드시나요|하셨나요"
)
_TELLS_IN_CJK = re.compile(
    r"建议|推荐|请先|注意|不用担心|考虑|为什么不|何不|不妨|试试|试过|可以|知道|要不要|应该|因为|所以|最好|可能|是不是|会不会"
    r"|\d|お勧め|ください|いかが|どうでしょう|てみて|ませんか|ご存[じ知]|ほうが|から[、]|ため"
    r"|세요\s|어떨까|아시나요|아십니까|해 ?보|때문|좋"
)

# Words that only put a question; what else a question says is what it is about.
_FRAME = frozenset(
    re.findall(
        r"\w+",
        """a about affect affected affects an and any are available be been being by can cause caused causes causing
        could diagnose diagnosed diagnosis do does done for genes genetic get has have how in inherit inheritance
        inherited is it its look made management manage managed many may might of on or other outlook people possible
        prevent prevented prevention prognosis related risk should sign signs symptom symptoms term test tested testing
        tests that the there their this to treat treated treatment treatments was what when where which who why
        will with""",
    )
)
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W_]+")
_BRACKETS = re.compile(r"\([^()]*\)|（[^（）]*）")

_ASKED_FOR = re.compile(
    r"^\W*(?:give|name|list|state|write|provide|compose|create|generate|complete|fill|finish|correct|act|imagine"
    r"|pretend)\b"
    r"|\bquestions?\b|\b(?:should|could|can|do|must|will|would|might|may) (?:i|we|you|they|one|he|she|(?:my|the|a"
    r"|an) \w+)"
    r" (?:be )?ask(?:ed)?\b|\bto ask\b|\bask(?:s|ed|ing)?\b|\b(?:want|need|like|have)s? to (?:know|hear|find)\b"
    r"|\b(?:responses?|reply|replies|respond|remark|statement|sentence|phrase|example|say|says|write|translat\w+)\b"
    r"|\brephrase|\breword|\bparaphrase|\bfollow[- ]?up\b|\bsummar[iy]|\b(?:check ?list|questionnaire|survey"
    r"|interview|quiz"
    r"|script|assess\w*|screen\w*|evaluat\w+|history[- ]taking|take a (?:\w+ )?history|find out|prepare|discuss\w*"
    r"|clarif\w+"
    r"|wonder\w*|greet\w*|triage|consider|conversation|dialogue|ice ?breaker|opening|opener|chief complaint"
    r"|history of)\b"
    r"|\b(?:fragen?|pregunt\w*|domand[ae]|chiedere|pergunt\w*|demander|vrag(?:en)?|frågor?|fråga\w*|spørgsmål|spørsmål"
    r"|pyta\w*|zapyta\w*|wissen|savoir|saber|sapere|weten|wiedzieć|veta)\b"
    r"|\banamnes|вопрос|спросить|спрашив|знать|问什么|问哪|[会要被]问|问我|问诊|哪些问题|什么问题|提问|提出|问题是|追问|询问|了解|質問|聞[くき]|尋ね|질문|물어"
    r"|प्रश्न|सवाल|سؤال|أسئلة",
    re.IGNORECASE,
)

# What tells when to go, or what something is, are questions to oneself.
_TO_ONESELF = re.compile(
    r"\b(?:when (?:should|do|must|to|is)|who (?:should|needs?|can|must)|should (?:i|we|he|she) (?:go|see|call|get)"
    r"|(?:do|can|could|would) (?:i|you|we|one) (?:know|tell|check|test|recogni[sz]e)|how to (?:know|tell|check|test)"
    r"|signs?"
    r"|criteria|red flags?)\b|\b(?:soll(?:te)? ich|wann (?:muss|soll)|woran|cuándo|quand (?:faut|dois|consult)|dois-je"
    r"|comment savoir|quando)|什么情况|怎么判断|如何判断|怎么知道",
    re.IGNORECASE,
)


def asks_for_a_question(question: str) -> bool:
    """Tell whether a question may be answered by a question: ``What might my midwife want to know?``.

    Args:
        question: the question of a row.
    """
    return _ASKED_FOR.search(question) is not None


def is_only_a_question(question: str, answer: str) -> bool:
    """Tell whether an answer only asks back (``How old are you?``) or only says the row's question again.

    Args:
        question: the question of the row.
        answer: the answer, cleaned.

    Returns:
        False in doubt: where a sentence or a clause says something, where a question suggests something or gives a
        reason, for a list of questions, and for a text of more than 300 characters.
    """
    text = answer
    if not text.isascii() and 2 * len(_GREEK.findall(text)) > sum(map(str.isalpha, text)):
        text = _GREEK_QUESTION_MARK.sub("?", text).replace("·", ";").replace("\u0387", ";")
    text = text.rstrip(_CLOSING)
    if not text.endswith(_QUESTION_MARKS) or len(text) > _LONGEST or not any(map(str.isalnum, text)):
        return False
    if _says_again(question, text):
        return True
    if (
        _TO_ONESELF.search(question)
        or len(_ITEM.findall(text)) > 1
        or sum(map(text.count, _QUESTION_MARKS)) > _MOST_QUESTIONS
    ):
        return False
    start = 0
    for mark in _SENTENCE.finditer(text):
        sentence = text[start : mark.start()].strip(_CLOSING + "-*•")
        start = mark.end()
        if sentence and not _asks_back(sentence, mark[0] in _QUESTION_MARKS):
            return False
    return True


def _says_again(question: str, answer: str) -> bool:
    """Tell whether an answer has no word that the question lacks, but for those that only put a question."""
    asked = {word.casefold() for word in _WORD.findall(question)}
    told = {word.casefold() for word in _WORD.findall(_BRACKETS.sub(" ", answer))}
    return bool(told & asked - _FRAME) and told <= asked | _FRAME


def _asks_back(sentence: str, has_mark: bool) -> bool:
    """Tell whether a sentence asks for something that the asker knows, or is a greeting."""
    clauses = [clause.strip() for clause in _CLAUSE.split(sentence) if clause.strip()]
    while clauses and _FILLER.fullmatch(clauses[0]):
        clauses.pop(0)
    if not clauses:
        return True
    asked = ", ".join(clauses)
    if not has_mark:
        return False
    if signs := _CJK.findall(sentence):
        if len(signs) > _MOST_SIGNS or _TELLS_IN_CJK.search(asked):
            return False
        return all(_ASKS_BACK_IN_CJK.search(clause) for clause in clauses)
    if len(asked.split()) > _MOST_WORDS:
        return False
    if _ASKS_BACK_IN_ENGLISH.fullmatch(asked):
        tells = _TELLS_IN_ENGLISH.search(asked, first.end() if (first := _WHICH_FIRST.match(asked)) else 0)
        return not tells and not any(_SAYS.match(clause) for clause in clauses[1:])
    return bool(_ASKS_BACK_ELSEWHERE.search(clauses[0])) and not _TELLS_ELSEWHERE.search(asked)
