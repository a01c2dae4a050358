"""Tells the language of a text: by its script, else by the commonest words and the letters of a language.

Made for the rules and reports of ``convert``: quick, and silent (``UNKNOWN``) where a text is too short to tell. Words
and alphabets are those that any grammar of the language lists; no model and no corpus went into them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache

UNKNOWN = "und"  # ISO 639-2: undetermined; the others are ISO 639-1
_LOOKED_AT = 600  # characters of a text; more of them add time and no certainty

# Of each language written in Latin letters: its letters beyond a to z, and its commonest small words.
LATIN = {
    "en": (
        "",
        """the of and to in is that it for was on are as with his they at be this from have or by one had not but what
        all were when we there can an your which their said if do will each about how up out them then she many some
        so these would other into has more her two like him see could no make than been its who now my may did most
        should also such because used you i usually often does people causes treatment symptoms disease disorder
        inherited per worldwide within between during through without before every doctor help need given where care
        over under non come die man men plus am ten go by me an any days day down themselves itself himself
        herself yourself after against while why how very just only own same too both again once until off get
        got take taken taking make made well much way feel eat drink keep stop start call ask yes no being i my
        we our us let still even back sense until all also her him""",
    ),
    "fr": (
        "àâæçèéêëîïôœùûüÿ",
        """le la les de des du un une et est en que qui dans pour pas par sur avec ce il elle au aux plus ne se sont
        cette ces son sa ses ou mais comme nous vous je être ont peut leur leurs sans très aussi entre même fait quel
        quelle quels quelles comment pourquoi quand chez après avant si lors souvent votre vos notre nos d l qu c n s
        y a été faut doit tous tout mot jour toute toutes chaque donc plusieurs fois vers moins cela cet""",
    ),
    "de": (
        "äöüß",
        """der die das und ist in den von zu mit sich des auf für im dem nicht ein eine als auch es an werden aus er
        hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum kann wenn nur oder aber vor zur
        bis mehr durch man sein was welche ich können haben wurde ihr ihre wir sollte keine bzw sehr""",
    ),
    "es": (
        "áéíñóúü¿¡",
        """el la los las de que y en un una es por con no se del para su al lo como más pero sus le ya o este sí porque
        esta son entre cuando muy sin sobre ser también hay puede qué cómo cuál cuáles si está han pueden tiene debe
        desde hasta personas enfermedad mi tratamiento síntomas usted ha fue todos""",
    ),
    "it": (
        "àèéìíòóùú",
        """il lo la i gli le di che e è un una in per non con del della dei delle degli nel nella si da al alla sono
        come più ma anche può o se questo questa cosa essere dal dalla ha hanno sia quali quando perché molto dopo
        prima ai alle nei sul sulla viene dell l all nell quale chi suo loro deve possono ogni stato stata
        tra solo così quindi senza già era sotto qui""",
    ),
    "ca": (
        "àçèéíïòóúü·",
        """el la els les de que i en un una és per amb no es del dels al als com més però o aquest aquesta són entre
        quan molt sense també hi ha pot què quins quines quin si cal poden malaltia fer ser té pel pels seva seu seus
        perquè d l s han després abans fins cada altres us tot tots sota teniu cop""",
    ),
    "pt": (
        "àáâãçéêíóôõú",
        """o a os as de que e do da em um uma é para com não se no na dos das por mais como mas ao ou pelo pela ser são
        quando muito também já pode foi tem seu sua isso esta este qual quais à às nos nas podem você entre sem até
        depois deve pessoas doença tratamento sintomas há está ele ela""",
    ),
    "nl": (
        "éëïóöü",
        """de het een en van ik te dat die in is zijn op aan met als voor er maar om ook niet dan bij nog naar door wat
        uit of over worden wordt kan hij ze je u deze dit heeft hebben meer veel tot waar wie hoe wel geen zo na onder
        welke moet kunnen uw tegen mensen vaak""",
    ),
    "sv": (
        "åäöé",
        """och att det i en är som på för av med den till inte om ett har de kan vid från eller man vad hur ska vara så
        hos även efter när mycket mer under också blir bli alla andra utan ha detta genom ofta vilka vilken får där
        dig du finns mellan skall något bör""",
    ),
    "da": (
        "æøåé",
        """og at det i en er som på for af med den til ikke om et har de kan ved fra eller man hvad hvordan skal være så
        hos også efter når meget mere under bliver blive alle andre uden have dette gennem ofte hvilke hvilken får der
        dig du findes mellem noget bør nogle hvis mod sig må""",
    ),
    "no": (
        "æøåéòô",
        """og å det i en er som på for av med den til ikke om et har de kan ved fra eller man hva hvordan skal være så
        hos også etter når mye mer under blir bli alle andre uten ha dette gjennom ofte hvilke hvilken får der deg du
        finnes mellom noe bør noen hvis mot seg at enn nå ble også må""",
    ),
    "is": (
        "áæðéíóöúýþ",
        """og að í á er sem það til við um en ekki með af fyrir hann hún var eru ef þetta því eða þegar frá hefur geta
        getur verið eftir mjög hvað hvernig þú ég sér eins""",
    ),
    "pl": (
        "ąćęłńóśźż",
        """w i z na się nie do jest o że to jak od za po a co przez przy dla są lub oraz ze może jego ten tym tego który
        która które także czy jakie jaki gdy być bez ale już należy pod przed między bardzo ma mogą u choroby leczenie
        po kiedy jeśli można""",
    ),
    "cs": (
        "áčďéěíňóřšťúůýž",
        """a v je na se že to s z do o i ve jak při pro nebo by jsou po co který která které od za k jako není také může
        být ale když tak má jeho u pokud již bez mezi až před ze si jaké jaká byl mohou lze více""",
    ),
    "sk": (
        "áäčďéíĺľňóôŕšťúýž",
        """a v je na sa že to s z do o i vo ako pri pre alebo by sú po čo ktorý ktorá ktoré od za k nie je tiež môže byť
        ale keď tak má jeho u ak už bez medzi až pred zo si aké aká bol môžu možno viac""",
    ),
    "ro": (
        "ăâîșțşţ",
        """de și şi în a la cu pe este o un că nu care din se pentru ce mai sunt sau prin după ca dar fi au fost poate
        are cum dacă al ale lui cele această acest între până când unei unui foarte fără pot trebuie boala""",
    ),
    "hu": (
        "áéíóöőúüű",
        """a az és hogy nem is egy van de ha meg ez vagy mint csak már ki még mi azt lehet el kell volt ami mert után
        milyen mely hogyan amely között nagyon minden sem esetén által akkor fel több pedig""",
    ),
    "tr": (
        "çğıöşüâî",
        """ve bir bu için ile de da olarak olan en çok daha gibi ne kadar veya nasıl nedir değil her ya sonra var
        olabilir ise ama hangi mi mı tarafından olduğu göre önce şekilde tedavi hastalık kan yüksek""",
    ),
    "fi": (
        "äöå",
        """ja on ei se että oli hän ovat joka kun mutta myös tai ole kuin voi sen jos niin mitä miten ne olla sitä vain
        mukaan hyvin voidaan jotka noin joita jälkeen ennen sekä tämä tämän usein myöskin kanssa yli alla olla""",
    ),
    "et": (
        "äõöüšž",
        """ja on ei see et kui ka oli mis või aga ta kas nii siis oma võib selle ning kuid mida kuidas ole enne pärast
        sageli väga need olla sest saab teie ega seda tuleb tohi üks kõik""",
    ),
    "lv": (
        "āčēģīķļņšūž",
        """un ir ar no uz par kas ka ne bet vai tas pie kā jo pēc tiek līdz var to arī lai ja ļoti kad bez""",
    ),
    "lt": (
        "ąčęėįšųūž",
        """ir yra kad iš su į tai kaip ne ar bet nuo apie už po kai gali būti dėl jei arba taip pat labai prie kas""",
    ),
    "hr": (
        "čćđšž",
        """i je u na se da su za od s ne to koji koja koje kao ili može ako sa nije što biti kod iz te bi ali kako po do
        samo već nakon prije između vrlo bi ima više""",
    ),
    "sl": (
        "čšž",
        """in je v na se da so za od z ne ki kot ali lahko če pri kaj ni to tudi s po biti iz kako med pred zelo pa bo
        bi bodo naj kar brez samo vaš vse ima imajo več nekaj""",
    ),
    "vi": (
        "àáâãèéêìíòóôõùúýăđĩũơư" + "".join(map(chr, range(0x1EA1, 0x1EFA, 2))),
        """và của là có không được cho trong một các những người với khi để này đó như từ về bị bệnh thể nhiều nếu đến
        hay hoặc vì do cần thì phải đau gì nào""",
    ),
    "id": (
        "",
        """yang dan di dengan untuk pada adalah dari ini itu tidak dalam atau akan dapat juga oleh ke apa karena bisa
        saat ada seperti anda lebih bagaimana jika sebagai telah harus apakah orang penyakit secara sering""",
    ),
}
"""ISO 639-1 code: the letters beyond a to z, and common words."""

# Where a script begins, and the language that a text in it is taken for ("": no letters of a script of their own).
_SCRIPTS: tuple[tuple[int, str], ...] = (
    (0x0000, ""),
    (0x0370, "el"),
    (0x0400, "ru"),
    (0x0530, "hy"),
    (0x0590, "he"),
    (0x0600, "ar"),
    (0x0780, ""),
    (0x0900, "hi"),
    (0x0980, "bn"),
    (0x0A00, "pa"),
    (0x0A80, "gu"),
    (0x0B00, "or"),
    (0x0B80, "ta"),
    (0x0C00, "te"),
    (0x0C80, "kn"),
    (0x0D00, "ml"),
    (0x0D80, "si"),
    (0x0E00, "th"),
    (0x0E80, "lo"),
    (0x0F00, "bo"),
    (0x1000, "my"),
    (0x10A0, "ka"),
    (0x1100, "ko"),
    (0x1200, "am"),
    (0x13A0, ""),
    (0x1780, "km"),
    (0x1800, ""),
    (0x1F00, "el"),
    (0x2000, ""),
    (0x3040, "ja"),
    (0x3100, "zh"),
    (0x3130, "ko"),
    (0x3190, ""),
    (0x3400, "zh"),
    (0xA000, ""),
    (0xAC00, "ko"),
    (0xD7B0, ""),
    (0xF900, "zh"),
    (0xFB00, ""),
    (0xFF66, "ja"),
    (0xFFA0, ""),
    (0x20000, "zh"),
    (0x30000, ""),
)
_STARTS = [start for start, _ in _SCRIPTS]
_OTHER_SCRIPT = re.compile("[\u0370-\u1fff\u3040-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0002ffff]")
_LATIN_LETTER = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
# Languages that share a script, by letters that only one of them has.
_BY_LETTERS: dict[str, tuple[tuple[str, str], ...]] = {
    "ru": (("uk", "іїєґ"), ("be", "ў"), ("sr", "ђћџљњ"), ("mk", "ѓќѕ"), ("kk", "қңғәұһө"), ("ru", "ыэё"), ("bg", "ъ")),
    "ar": (("ur", "ٹڈڑےں"), ("fa", "پچژگ")),
}

_WORD = re.compile(r"[^\W\d_]+")
_SHARE_OF_SCRIPT = 0.3  # of the letters; a sign of Chinese is worth several letters, and terms stay in Latin letters
_ROWS_WORTH_A_LINE = 20
_LEAST_SCORE = 0.5
_LEAST_SIGNS = 2  # different words, or letters beyond a to z
_LEAD_OF_ENGLISH = 1.3  # how many times English's score, whose small words stand in names and terms of others
_LEAD, _LEAD_IN_POINTS = 1.25, 0.6  # of the second: times its score, or that much more


def _votes() -> dict[str, tuple[tuple[str, float], ...]]:
    """Return what each word and each letter says: languages, each with a weight; the fewer share it, the more.

    A single letter from a to z says little, since lists and abbreviations hold them too.
    """
    said: dict[str, list[str]] = {}
    for language, (letters, words) in LATIN.items():
        for sign in {*letters, *words.split()}:
            said.setdefault(sign, []).append(language)
    return {
        sign: tuple((language, _weight(sign) / len(languages)) for language in languages)
        for sign, languages in said.items()
    }


def _weight(sign: str) -> float:
    return 1.5 if not sign.isascii() else 0.2 if len(sign) == 1 else 1.0


_VOTES = _votes()
_ENGLISH = frozenset(LATIN["en"][1].split())
_ONLY_ENGLISH = frozenset(word for word in _ENGLISH if len(_VOTES[word]) == 1)
_ENGLISH_ENOUGH = 4  # different words of English alone, 2 in a text of a few words
_FEW_WORDS = 12


def language_of(text: str) -> str:
    """Tell the language of a text.

    Args:
        text: any text; its start decides.

    Returns:
        the ISO 639-1 code, or ``UNKNOWN`` where the text is too short or too odd to tell, or where two languages are
        about as likely. Of languages that share a script other than Latin the most spoken one stands for all where no
        letter tells them apart.
    """
    language, is_certain = _told(text)
    return language if is_certain else UNKNOWN


def likeliest_language(text: str) -> str:
    """Tell the likeliest language of a text, also where there is little to tell it by, or another is about as likely.

    For what does less harm where the language is a wrong one than where it is taken for English.
    """
    return _told(text)[0]


@lru_cache(maxsize=16)
def _told(text: str) -> tuple[str, bool]:
    """Return the likeliest language, and whether it is certain."""
    start = text[:_LOOKED_AT]
    if start.isascii():
        words = start.lower().split()
        if len(_ONLY_ENGLISH.intersection(words)) >= (_ENGLISH_ENOUGH if len(words) > _FEW_WORDS else 2):
            return "en", True
    elif script := _language_by_script(start):
        return script, True
    return _language_by_words(start.lower())


def has_other_languages(counts: Mapping[str, int]) -> bool:
    """Tell whether languages other than English are worth a line: 20 rows, or one of a hundred, not one beside others.

    Fewer may be lists of names that were taken for another language.

    Args:
        counts: rows by language.
    """
    others = sum(count for language, count in counts.items() if language not in ("en", UNKNOWN))
    rows = sum(counts.values())
    return others >= _ROWS_WORTH_A_LINE or (100 * others > rows and others > (rows > 1))


def told_language(text: str, beside: str, tell: Callable[[str], str] = language_of) -> str:
    """Tell the language of a text; where that cannot be told, of the text beside it, as of a question's answer."""
    language = tell(text)
    return language if language != UNKNOWN else tell(beside)


def _language_by_script(text: str) -> str:
    signs = _OTHER_SCRIPT.findall(text)
    if not signs or len(signs) < _SHARE_OF_SCRIPT * (len(signs) + len(_LATIN_LETTER.findall(text))):
        return ""
    counts: dict[str, int] = {}
    for sign in signs:
        language = _SCRIPTS[bisect_right(_STARTS, ord(sign)) - 1][1]
        counts[language] = counts.get(language, 0) + 1
    counts.pop("", None)
    if not counts:
        return ""
    if counts.get("ja", 0) * 20 > counts.get("zh", 0) and "zh" in counts:
        return "ja"  # its nouns are written with Chinese signs
    found = max(counts, key=lambda language: counts[language])
    letters = frozenset(text.lower())
    return next((language for language, own in _BY_LETTERS.get(found, ()) if not letters.isdisjoint(own)), found)


def _language_by_words(text: str) -> tuple[str, bool]:
    scores: dict[str, float] = {}
    signs: list[str] = _WORD.findall(text)
    if not text.isascii():
        signs += [*{sign for sign in text if sign > "\x7f"}]
    for sign in signs:
        for language, weight in _VOTES.get(sign, ()):
            scores[language] = scores.get(language, 0.0) + weight
    if not scores:
        return UNKNOWN, False
    best = max(scores, key=lambda language: scores[language])
    score = scores.pop(best)
    # Near relatives (Danish and Norwegian) are guessed; English is what most rules are for, so that it is not.
    if score < _LEAST_SCORE or (best != "en" and score < _LEAD_OF_ENGLISH * scores.get("en", 0.0)):
        return UNKNOWN, False
    told_by = {sign for sign in signs for language, _ in _VOTES.get(sign, ()) if language == best}
    # Words that English has, too, tell nothing of another language.
    num_signs = len(told_by if best == "en" else told_by - _ENGLISH)
    second = max(scores.values(), default=0.0)
    return best, num_signs >= _LEAST_SIGNS and (score >= _LEAD * second or score - second >= _LEAD_IN_POINTS)
