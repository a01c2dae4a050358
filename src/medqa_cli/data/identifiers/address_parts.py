"""The parts of an address around a street that was found: units, codes and towns behind it, units and houses before it.

They count only in a text about one person, and one after the other, each beside what was found already.
"""

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.name_forms import is_common, is_medicine, with_capitals
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import common_words, medical_words
from medqa_cli.resources import load_pattern, load_words

_MOST, _REACH, _SEPARATOR = 7, 60, r"\s?[,\n]\s?"
_UNIT = (
    r"(?:apt|apartment|suite|ste|unit|flat|room|rm|floor|fl|level|studio|interior|int|piano|interno|puerta|pta|piso|scala|scara|sc|etaj|et"
    r"|appartamento|appartement|appt?|app|edif\w*|de?p(?:ar)?to|departamento|bloque|bloco|bloc|block|blk|bl|esc|escalera|portal|ap|apto"
    r"|apartamento|lote|lot|kv|daire|kat|étage|bât|bâtiment|esc|stiege|top|tür|stock|whg|wohnung|bus|bo[iî]te|bte|lgh|leil|phase|sector"
    r"|tower|villa|building|bldg|house|plot|door|quadra|casa|manzana|mz|km|rt|rw|no|nr|n[º°]|số|ngõ|hẻm|ngách|đường|quận|phường|road|кв|корп|подъезд|эт|дом|h\.?\s?no)"
)
_UNIT_NUMBER = r"\.?[:.]?\s?(?:no\.?\s?)?\#?\s?(?:\d{1,5}[a-z]?(?:[/-]\d{1,4}[a-z]?)?|[a-z]\d{1,4})(?![\w])"
_UNIT_BEHIND = re.compile(
    rf"[,.\s]{{1,3}}{_UNIT}{_UNIT_NUMBER}|,?\s(?:apt|apartment|suite|ste|unit|flat|room|piso|puerta|bl|sc|esc|scala)\.?\s(?:[b-hj-z]\b(?!['’])|a(?=[,.;)\n]|\Z))|[,\s]{{1,2}}(?:[md][.:]|of\.|\#|n\.?[º°]|m\.)\s?\d{{1,4}}(?:[/-]\d{{1,4}})?[a-z]?(?!\w)"
    r"|,?\s\d{1,2}(?:º|ª|°|[èe]me|er\b|th|st|nd|rd|\.)\s?(?:(?:izq\w*|dcha\w*|emelet|floor|étage|piso|andar|stock|og|patro|et|cross|main"
    r"|block|sector|phase|stage|[a-d])\b\.?)?(?=[,.;\s]|\Z)"
)
_NUMBER_BEHIND = re.compile(
    r"(?:\s?[/-]\s?\d{1,5}[a-z]?)+(?![\w%/])|\s\d{1,4}(?=\s?[,.;\n]\s?(?:[^\Wa-z]|\Z)|\Z)(?!\s?[.,]\d)"
    r"|\s\d{3}(?=[,.;:)|\n]|\s?\Z|\s[a-z]{2,})(?![.,]\d|\s?(?:mg|mcg|ml|kg|cm|mm|am|pm)\b)|(?i:,\ss/n\b)"
)
_CODE = (
    r"(?:(?:[A-Z]{1,3}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{3}-\d{4}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[A-Z]{2}"
    r"|\d{4,8}|\d{3}(?=\s[A-Z]))(?![\d/-]|[ -]\d)"
    r"|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d|[AC-FHKNPRTV-Y]\d[\dW]\s?[AC-FHKNPRTV-Y\d]{4})"
)
_LINK = (
    r"(?:am|an der|an|ob der|in der|im|in 't|en 't|bei|unter|sur|sous|en|la|le|les|los|las|de los|de las|de la|del?"
    r"|da|das|do|dos|di|du|upon|on|under|the|of the|of|pri|ob|na|nad|pod|v|y|e|al|et|van|aan de|aan den|op"
    r"|'t|ter|ten|zu|i|w)"
)
_TOWN = (
    r"(?:(?:St|Ste|Sta|Sto|San|Col|Urb|Res|Fracc|TP|P|Q|Mt|Ft|Bad|(?i:thành phố|thị xã|tp|kota|d[aeo]s?))\.?\s)?"
    r"[A-ZÀ-Þ](?:[\w'’.-]*\w|['’][\w-]+)"
    rf"(?:(?: |-|- | -| - |--|/)(?:(?i:{_LINK}) |[dl]['’])?[A-ZÀ-Þ\d][\w'’-]*){{0,7}}(?: los (?:altos|bajos)\b)?"
)
_TOWN_END = r"(?:\s-\s?[A-Z]{2}\b|\s\([A-Z]{2,3}\)|,?\s[A-Z]{2,3}\b(?=,?\s\d{4,6}))?"
_CODE_BEHIND = with_capitals(
    rf"\.?(?:{_SEPARATOR}|\s){_CODE}(?:\s[A-Z]{{1,2}}\b)?(?:,?\s{_TOWN})?{_TOWN_END}(?!\w)"
    rf"|{_SEPARATOR}{_TOWN},?\s(?:[A-Z]{{2,3}},?\s)?{_CODE}(?!\w)|,?\s[A-Z]{{2,3}}\s{_CODE}(?!\w)"
)
_SURE_CODE = (
    r"(?:(?:[A-Z]{1,2}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[A-Z]{2}|\d{5,6}|\d{7,8}|(?!(?:19|20)\d\d)\d{4})(?![\d/-])"
    r"|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d|[AC-FHKNPRTV-Y]\d[\dW]\s[AC-FHKNPRTV-Y\d]{4}|1\d\d(?=\s[A-Z][a-z]))"
)
_CODED_TOWN = with_capitals(
    rf"\.?\s?[,\n]\s?(?:{_SURE_CODE}\s(?=\S+[a-z]){_TOWN}|(?=\S+[a-z]){_TOWN},?\s(?:[A-Z]{{2,3}},?\s)?{_SURE_CODE})(?!\w)"
)
_SMALL_CODED_TOWN = re.compile(
    r"\.?\s?[,\n]\s?(?:(?:[a-z]{1,2}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[a-z]{2}|\d{5,8}|(?!19|20)\d{4})\s[^\W\d_]{3,}"
    r"|[^\W\d_]{3,}(?: [^\W\d_]{2,}){0,2},?\s(?:[a-z]{2,3},?\s)?"
    r"(?:\d{5,6}|[a-z]{1,2}\d[a-z\d]?\s?\d[a-z]{2}|[a-z]\d[a-z]\s?\d[a-z]\d))(?!\w)"
)
_TOWN_BEHIND = with_capitals(
    rf"(?:\.?\s?,\s?|\s(?=(?:Phố|Đường|Jalan|Jl|Road|Street)\b))({_TOWN}){_TOWN_END}(?=\s?[,.;:)\n!?(|]|\s[a-z\d(]|\s[-–]|\Z)"
)
_SMALL_TOWN_BEHIND = re.compile(r"\s?,\s?([^\W\d_]{3,}(?:[ -][^\W\d_]{2,}){0,3})(?=\s?[.;:)\n!?|]|\s?,|\Z)")
_ANY_TOWN_BEHIND = re.compile(r"\s?[,\n]\s?([^\W\d_][\w'’.-]{2,}(?:[ -][^\W\d_][\w'’.-]+){0,3})")
_TOWN_ALONE_BEHIND = with_capitals(r",\s([A-ZÀ-Þ][\w'’-]{2,}(?: [A-ZÀ-Þ][\w'’-]{2,})?)(?=\s?[.;)\n]|\s-|\Z)")
_SMALL_CODE_BEHIND = re.compile(
    rf"\.?(?:{_SEPARATOR}|\s)(?:[a-z]{{1,2}}-)?(?:\d{{5}}-\d{{3,4}}|\d{{4}}-\d{{3}}|\d{{2}}-\d{{3}}|\d{{3}}\s\d{{2}}|\d{{4}}\s?[a-z]{{2}}|\d{{4,8}})"
    r"(?: [^\W\d_]{3,}(?:[ -][^\W\d_]{2,}){0,3}(?=\s?[,.;:\n)!?|]|\Z))"
    r"|(?:,\s[^\W\d_]{2,}(?:[ -][^\W\d_]{2,}){0,3})?,?\s(?:[a-z]{2,3},?\s)?(?:\d{4,6}(?:-\d{4})?"
    r"|[a-z]{1,2}\d[a-z\d]?\s?\d[a-z]{2}|[a-z]\d[a-z]\s?\d[a-z]\d"
    r"|[ac-fhknprtv-y]\d[\dw]\s?[ac-fhknprtv-y\d]{4})(?!\w|[.,/-]\d)"
)
_UNIT_BEFORE = re.compile(
    rf"(?<![\w-])(?:c/o\s[\w'’. -]{{2,24}},\s|(?:{_UNIT}|số){_UNIT_NUMBER}(?:,\s?|\s|\n)"
    r"|(?:no|số|nr|h\.?\s?no)[.:]?\s?\#?)\Z"
)
_HOUSE_BEFORE = with_capitals(
    r"(?<![\w-])(?:The\s)?(?:[A-ZÀ-Þ][\w'’-]+\s){1,3}(?:House|Cottage|Court|Lodge|Farm|Forge|Barn|Mill|Villas?|Hall|Manor|Rectory|Vicarage|Point"
    r"|Towers?|Heights|Building|Mansions|Apartments|Apts|Works|Wharf|Residency|Enclave|Colony|Complex)(?:,\s?|\n)\Z"
    r"|(?<![\w-])The\s(?:[A-ZÀ-Þ][\w'’-]+\s?){1,3}(?:,\s?|\n)\Z"
)
_NUMBER_BEFORE = re.compile(
    r"(?:(?<=[,;:(\n])|(?<=[,;:(] )|(?<=\bat )|(?<=\bto )|(?<=\bin )|(?<=\bof )|(?<=\bis )"
    r"|(?<=\bon )|(?<=from )|(?<=address )|(?<=habite )|(?<=outside ))"
    r"(?!(?:19|20)\d\d, )\d{1,5}[a-z]?(?:[/-]\d{1,5}[a-z]?){0,3},? (?:bis |ter )?\Z"
)
# House 5, Road 12; Lot 5 Blk 12; 1-2-3 Shibuya, Shibuya-ku; The Old Forge, Mill Lane
_CHAIN = re.compile(
    r"(?<![\w-])(?:(?:house|plot|villa|lot|quadra|mz|blk|block|flat|room)\.?\s(?:no\.?\s?)?\d{1,4}[a-z]?(?:,\s?|\s)"
    r"(?:road|street|lane|phase|sector|blk|block|lote?|building|house)\.?\s(?:no\.?\s?)?\d{1,4}[a-z]?"
    r"|số\s\d{1,5}(?:/\d{1,5})*[a-z]?"
    r")(?!\w)"
)
# Carrera 67 # 90-9 Este, Blv. Mitre N° 17; 56, Bora, Patiala, 056461
_NUMBER_SIGNED = re.compile(
    r"(?<![\w-])(?:carrera|cra|kra|calle|cl|cr|c|diagonal|diag|dg|transversal|transv|tr|tv|av|avenida|autopista|circular|boulevard|bulevar|blv|bv)\b\.?"
    r"(?:\s[^\W\d_][\w.'’-]*|\s\d{1,3}[a-zªº]{0,2}){1,6}\s?(?:\#|no\.|n\s?[º°]\.?)\s?\d{1,4}[a-z]{0,2}(?:\s?-\s?\d{1,3})?"
    r"(?:\s(?:sur|este|norte|oeste|bis)\b)?(?!\w)"
)
_SIGNS = ("#", "º", "°", "no.")
_INDIAN = re.compile(
    r"\d(?<![\w.,/-].)\d{0,3}(?:/\d{1,4})?,\s[^\W\d_]{3,}(?: [^\W\d_]{2,}){0,2},\s[^\W\d_]{3,}(?: [^\W\d_]{3,})?"
    r",?\s\d{6}(?!\w)"
)
_VIETNAMESE_NAME = r"(?:[^\W\d_]{2,6}\s){1,3}[^\W\d_]{2,6}"
_VIETNAMESE = re.compile(
    r"(?<![\w-])(?:số\s)?\d{1,4}(?:/\d{1,4}){0,3}\s(?:(?:ngõ|hẻm|ngách|khu|khóm|tổ|ấp|thôn|kiệt)\s\d{1,4}\s"
    rf"(?:(?:(?:phố|đường)\s)?(?:số\s)?\d{{1,3}}|(?:(?:phố|đường)\s)?{_VIETNAMESE_NAME})"
    rf"|(?:phố|đường)\s(?:(?:số\s)?\d{{1,3}}|{_VIETNAMESE_NAME}))(?!\w)"
)
_VIETNAMESE_WORDS = frozenset(("số", "ngõ", "hẻm", "ngách", "khu", "khóm", "phố", "đường"))
_UNIT_AND_HOUSE = re.compile(
    r"(?<![\w-])(?:flat|unit|apt|apartment|studio|suite|level|shop)\.?\s\d{1,4}[a-z]?(?:,\s?|\s|/)\d{1,5}[a-z]?\s(?:[^\W\d_][\w'’.-]*\s?){1,4}"
    r"(?<!\s)(?=\s?[,;:\n)]|\.\s|\.?\Z)"
)
_WARD = with_capitals(
    r"(?<![\w.-])\d{1,3}-\d{1,3}(?:-\d{1,3})?,?\s(?:[A-ZÀ-Þ][\w-]+,?\s)?[A-ZÀ-Þ]\w+-(?:ku|shi|cho|machi|gun|ken|to|fu)\b"
)
_HOUSE_AND_LANE = with_capitals(
    r"(?<![\w-])(?:The\s(?:[A-ZÀ-Þ][\w'’-]+\s?){1,2}|(?:[A-ZÀ-Þ][\w'’-]+\s){1,2}(?:House|Cottage|Lodge|Farm|Forge|Barn|Mill|Villas?|Hall|Manor"
    r"|Rectory|Vicarage|Court|Mansions|Bungalow)),\s(?:[A-ZÀ-Þ][\w'’-]+\s){1,2}(?:Road|Lane|Street|Avenue|Close|Drive|Hill|Way|Crescent|Terrace"
    r"|Gardens|Square|Place)(?!\w)"
)
# Without a number, on a line or behind words that say that somebody lives there.
_FRENCH_STREET = with_capitals(
    r"(?:(?<=\n)|(?<=\bat )|(?<=\bto )|(?<=ddress: )|(?<=habite )|(?<=\d, ))"
    r"(?:[rR]ue|[aA]venue|[bB]oulevard|[cC]hemin|[aA]llée|[iI]mpasse|[qQ]uai)"
    r"\s(?:(?:de la|de|du|des|le|la)\s|de l['’]|d['’])?[A-ZÀ-Þ][\w'’-]+(?:\s[A-ZÀ-Þ][\w'’-]+){0,2}(?!\w)"
)
_LONGEST, _LONGEST_SMALL = 160, 16
_AMOUNT = re.compile(r"\s?(?:mg|ml|kg|cm|mm|days?|weeks?|months?|years?|hours?|times|points?|tablets?|pills?)\b")
_LETTERS = re.compile(r"(?<!\d)[^\W\d_]{2,}(?!\d)")
_DUTCH_CODE = re.compile(r"(?<!\d)\d{4}\s?[A-Za-z]{2}\b")
_SMALL_BEFORE_TOWN = re.compile(
    r"\.?\s?,\s(?:(?:[a-z]{1,2}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[a-z]{2}|\d{4,8}"
    r"|[a-z]\d[a-z]\s?\d[a-z]\d)\s)?(?=[^\W\d_])"
)
_TOWN_WORD = re.compile(r"[^\W\d_][\w'’.]*")


def grown(text: Text, start: int, end: int) -> tuple[int, int]:
    """Return the place of an address with the parts of it that stand beside what was found."""
    end = end_of_parts(text, start + len(text.text[start:end].rstrip()))
    if text.text[end - 1] == "." and text.text[end - 2].isdigit():
        end -= 1
    for _ in range(_MOST):
        reach = max(start - _REACH, 0)
        found = _UNIT_BEFORE.search(text.lower, reach, start)
        if found is None and text.text[start].isalpha():
            found = _NUMBER_BEFORE.search(text.lower, reach, start)
        if found is None and not text.is_shouted:
            found = _HOUSE_BEFORE.search(text.text, reach, start)
        if found is None or found.start() == start:
            break
        start = found.start()
    return start, end


def end_of_parts(text: Text, end: int) -> int:
    """Return where the parts behind a street end: units, a code, a town."""
    is_small = text.is_shouted or text.text[max(end - _LONGEST_SMALL, 0) : end].islower()
    for _ in range(_MOST):
        last = _end_behind(text, end, is_small)
        if last == end:
            break
        end = last
    return end


def labelled(text: Text) -> Iterator[tuple[int, int]]:
    """Yield what stands behind the label of an address, up to the end of its line or the next label."""
    for label in load_pattern("identifiers", "address_label").finditer(text.lower):
        if load_pattern("identifiers", "no_address_behind").match(text.lower, label.end()):
            continue
        last = load_pattern("identifiers", "other_label").search(text.lower, label.end(), label.end() + _LONGEST)
        end = last.start() if last else label.end()
        value = text.text[label.end() : end]
        words = _LETTERS.findall(value)
        has_number = any(map(str.isdecimal, value))
        is_name = not has_number and value.istitle() and not any(is_common(word.lower()) for word in words)
        if words and (is_name or (has_number and not all(is_common(word.lower()) for word in words))):
            yield label.end(), label.end() + len(value.rstrip(" ,."))


def chains(text: Text) -> Iterator[tuple[int, int]]:
    """Yield two numbers of plots and houses, one behind the other; a number before a ward; a house and its lane."""
    patterns = [_CHAIN, _UNIT_AND_HOUSE]
    patterns += [_NUMBER_SIGNED] * any(map(text.lower.__contains__, _SIGNS))
    patterns += [_VIETNAMESE] * (not _VIETNAMESE_WORDS.isdisjoint(text.all_words))
    for pattern in patterns:
        for found in pattern.finditer(text.lower):
            yield found.span()
    if text.has_long_number:
        for found in text.matches(_INDIAN, 0, small=True):
            yield found.span()
    if not text.is_shouted:
        for pattern in (_WARD, _HOUSE_AND_LANE, _FRENCH_STREET):
            for found in pattern.finditer(text.text):
                if _are_places(found[0]):
                    yield found.span()


def _end_behind(text: Text, end: int, is_small: bool) -> int:
    """Return where the part behind a place ends; the place itself where none stands there."""
    if (unit := _UNIT_BEHIND.match(text.lower, end)) and not _AMOUNT.match(text.lower, unit.end()):
        return unit.end()
    if number := _NUMBER_BEHIND.match(text.text, end):
        return number.end()
    if is_small:
        if (town := _SMALL_TOWN_BEHIND.match(text.lower, end)) and _are_places(town[1]):
            return town.end()
        coded = _SMALL_CODE_BEHIND.match(text.lower, end)
        if coded and not _AMOUNT.match(text.lower, coded.end()) and _are_places(coded[0], is_coded=True):
            is_next = text.text[coded.end() : coded.end() + 1] == " "
            return _end_of_small_town(text, coded.end() + 1, coded.end()) if is_next else coded.end()
        before = _SMALL_BEFORE_TOWN.match(text.lower, end)
        return _end_of_small_town(text, before.end(), end) if before else end
    coded = _CODE_BEHIND.match(text.text, end)
    if coded and not _AMOUNT.match(text.lower, coded.end()) and _are_places(coded[0], is_coded=True):
        return coded.end()
    if (town := _TOWN_BEHIND.match(text.text, end)) and _are_places(town[1]):
        return town.end()
    return end


def end_of_units(text: Text, end: int) -> int:
    """Return where the units behind a street end: flats, floors."""
    while unit := _UNIT_BEHIND.match(text.lower, end):
        end = unit.end()
    return end


def _end_of_small_town(text: Text, place: int, end: int) -> int:
    """Return where a town in small letters ends that begins at a place, or ``end`` where there is none: west thomas."""
    links, places = load_words("identifiers", "town_links"), load_words("not_names", "places")
    for word in _TOWN_WORD.finditer(text.lower, place, place + _REACH):
        plain = word[0].strip(".'’")
        if plain in load_words("identifiers", "no_towns"):
            break
        is_word = plain in common_words() or plain in medical_words()
        if plain not in links:
            is_large = text.text[word.start()].isupper() and not text.is_shouted
            if (is_word and plain not in places and not is_large) or is_medicine(plain):
                break
            end = word.end()
        if text.lower[word.end() : word.end() + 1] not in (" ", "-", "/"):
            break
    return end


def has_town_behind(text: Text, end: int) -> bool:
    """Tell whether what looks like a town stands behind a street and a comma, in whatever letters."""
    town = _ANY_TOWN_BEHIND.match(text.lower, end)
    return town is not None and _are_places(town[1])


def has_town_alone_behind(text: Text, end: int) -> bool:
    """Tell whether a town, of words that are none of the language, stands between a street and a mark."""
    town = _TOWN_ALONE_BEHIND.match(text.text, end)
    return town is not None and _are_places(town[1]) and not all(map(is_common, _LETTERS.findall(town[1].lower())))


def has_code_behind(text: Text, end: int) -> bool:
    """Tell whether a code, with or without a town, stands behind a street."""
    return any(map(str.isdecimal, text.text[end : end_of_parts(text, end)]))


def has_coded_town_behind(text: Text, end: int) -> bool:
    """Tell whether a town and its code stand behind a street."""
    pattern, where = (_SMALL_CODED_TOWN, text.lower) if text.text == text.lower else (_CODED_TOWN, text.text)
    found = pattern.match(where, end)
    return found is not None and _are_places(found[0], is_coded=True)


def _are_places(value: str, *, is_coded: bool = False) -> bool:
    """Tell whether no word of a town is one that no town has: of medicine, or of the language where no code tells."""
    words = [word.lower() for word in _LETTERS.findall(_DUTCH_CODE.sub(" ", value) if is_coded else value)]
    if len(words) > 1:  # New Haven, and not "new" alone
        words = [word for word in words if word not in load_words("identifiers", "town_links")] or words
    none = load_words("identifiers", "no_towns", *([] if is_coded else ["common", "months_and_days"]))
    if any(word in none or is_medicine(word) for word in words):
        return False
    places = load_words("not_names", "places")
    return is_coded or not words or not all(word in common_words() and word not in places for word in words)
