"""The parts of an address around a street that was found: units, codes and towns behind it, units and houses before it.

They count only in a text about one person, and one after the other, each beside what was found already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.name_forms import is_common, is_medicine, is_unknown, with_capitals
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
    rf"[,.\s]{{1,3}}{_UNIT}{_UNIT_NUMBER}|,?\s(?:apt|apartment|suite|ste|unit|flat|room|piso|puerta|bl|sc|esc|scala)\.?\s[a-h]\b|[,\s]{{1,2}}(?:[md][.:]|of\.|\#|n\.?[º°]|m\.)\s?\d{{1,4}}(?:[/-]\d{{1,4}})?[a-z]?(?!\w)"
    r"|,?\s\d{1,2}(?:º|ª|°|[èe]me|er\b|th|st|nd|rd|\.)\s?(?:(?:izq\w*|dcha\w*|emelet|floor|étage|piso|andar|stock|og|patro|et|cross|main"
    r"|block|sector|phase|stage|[a-d])\b\.?)?(?=[,.;\s]|\Z)"
)
_NUMBER_BEHIND = re.compile(
    r"(?:\s?[/-]\s?\d{1,5}[a-z]?)+(?![\w%/])|\s\d{1,4}(?=\s?[,.;\n]\s?(?:[^\Wa-z]|\Z)|\Z)(?!\s?[.,]\d)"
)
_CODE = (
    r"(?:(?:[A-Z]{1,3}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{3}-\d{4}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[A-Z]{2}"
    r"|\d{4,8}|\d{3}(?=\s[A-Z]))(?![\d/-]|[ -]\d)"
    r"|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d|[AC-FHKNPRTV-Y]\d[\dW]\s?[AC-FHKNPRTV-Y\d]{4})"
)
_LINK = (
    r"(?:am|an der|an|ob der|in der|im|bei|unter|sur|sous|en|la|le|les|los|las|del?|dell?['’]?|da|das|do|dos|di|du"
    r"|upon|on|under|the|of the|of|pri|ob|na|nad|pod|v|y|e|al|et)"
)
_TOWN = (
    r"(?:(?:St|Ste|Sta|Sto|San|Col|Urb|Res|Fracc|TP|P|Q|Mt|Ft|Bad)\.?\s)?[A-ZÀ-Þ][\w'’.-]*\w"
    rf"(?:[ -](?:(?i:{_LINK}) )?[A-ZÀ-Þ\d][\w'’-]*|[ -](?i:{_LINK}) [A-ZÀ-Þ][\w'’-]*){{0,7}}"
)
_TOWN_END = r"(?:\s-\s?[A-Z]{2}\b|\s\([A-Z]{2,3}\)|,?\s[A-Z]{2,3}\b(?=,?\s\d{4,6}))?"
_CODE_BEHIND = with_capitals(
    rf"\.?(?:{_SEPARATOR}|\s){_CODE}(?:\s[A-Z]{{1,2}}\b)?(?:,?\s{_TOWN})?{_TOWN_END}(?!\w)"
    rf"|{_SEPARATOR}{_TOWN},?\s(?:[A-Z]{{2,3}},?\s)?{_CODE}(?!\w)|,?\s[A-Z]{{2,3}}\s{_CODE}(?!\w)"
)
_SURE_CODE = (
    r"(?:(?:[A-Z]{1,2}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[A-Z]{2}|\d{5,6}|(?!(?:19|20)\d\d)\d{4})(?![\d/-])"
    r"|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d|[AC-FHKNPRTV-Y]\d[\dW]\s[AC-FHKNPRTV-Y\d]{4}|1\d\d(?=\s[A-Z][a-z]))"
)
_CODED_TOWN = with_capitals(
    rf"\.?\s?[,\n]\s?(?:{_SURE_CODE}\s(?=\S+[a-z]){_TOWN}|(?=\S+[a-z]){_TOWN},?\s(?:[A-Z]{{2,3}},?\s)?{_SURE_CODE})(?!\w)"
)
_SMALL_CODED_TOWN = re.compile(
    r"\.?\s?[,\n]\s?(?:(?:[a-z]{1,2}-)?(?:\d{5}-\d{3,4}|\d{4}-\d{3}|\d{2}-\d{3}|\d{3}\s\d{2}|\d{4}\s?[a-z]{2}|\d{5,6}|(?!19|20)\d{4})\s[^\W\d_]{3,}"
    r"|[^\W\d_]{3,}(?: [^\W\d_]{2,}){0,2},?\s(?:[a-z]{2,3},?\s)?"
    r"(?:\d{5,6}|[a-z]{1,2}\d[a-z\d]?\s?\d[a-z]{2}|[a-z]\d[a-z]\s?\d[a-z]\d))(?!\w)"
)
_TOWN_BEHIND = with_capitals(
    rf"(?:\.?\s?,\s?|\s(?=(?:Phố|Đường|Jalan|Jl|Road|Street)\b))({_TOWN}){_TOWN_END}(?=\s?[,.;:)\n!?(|]|\s[a-z\d(]|\s[-–]|\Z)"
)
_SMALL_TOWN_BEHIND = re.compile(r"\s?,\s?([^\W\d_]{3,}(?:[\s-][^\W\d_]{2,}){0,3})(?=\s?[.;:)\n!?|]|\s?,|\Z)")
_SMALL_CODE_BEHIND = re.compile(
    rf"(?:{_SEPARATOR}|\s)(?:[a-z]{{1,2}}-)?(?:\d{{5}}-\d{{3,4}}|\d{{4}}-\d{{3}}|\d{{2}}-\d{{3}}|\d{{3}}\s\d{{2}}|\d{{4,6}}|\d{{4}}\s[a-z]{{2}})"
    r"(?:\s[^\W\d_]{3,}(?:[\s-][^\W\d_]{2,}){0,3}(?=\s?[,.;:\n)!?|]|\Z))"
    r"|(?:,\s[^\W\d_]{2,}(?:[\s-][^\W\d_]{2,}){0,3})?,?\s(?:[a-z]{2,3},?\s)?(?:\d{4,6}(?:-\d{4})?|[a-z]{1,2}\d[a-z\d]?\s?\d[a-z]{2}|[a-z]\d[a-z]\s?\d[a-z]\d"
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
    r"|(?:carrera|cra\.?|kra\.?|calle|cl\.|cr\.?|diagonal|transversal|av\.?|avenida)\s\d{1,3}[a-z]{0,2}\s(?:\#|no\.?|n[º°])\s?\d{1,3}[a-z]{0,2}\s?-\s?\d{1,3}(?:\s(?:sur|este|norte|oeste)\b)?"
    r"|(?:calle|diagonal|av\.?|avenida)\s\d{1,3}\sn[º°]\s?\d{1,4})(?!\w)"
)
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
_LONGEST = 160
_AMOUNT = re.compile(r"\s?(?:mg|ml|kg|cm|mm|days?|weeks?|months?|years?|hours?|times|points?|tablets?|pills?)\b")
_LETTERS = re.compile(r"(?<!\d)[^\W\d_]{2,}(?!\d)")
_DUTCH_CODE = re.compile(r"(?<!\d)\d{4}\s?[A-Za-z]{2}\b")
_COMMA, _PLAIN_WORD = re.compile(r"\s?,\s"), re.compile(r"[^\W\d_]{3,}")
_NEXT_WORD = re.compile(r"\s([^\W\d_]{3,})")


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
    is_small = text.text == text.lower or text.is_shouted
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
    for pattern in (_CHAIN, _UNIT_AND_HOUSE):
        for found in pattern.finditer(text.lower):
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
        coded = _SMALL_CODE_BEHIND.match(text.lower, end)
        if coded and not _AMOUNT.match(text.lower, coded.end()) and _are_places(coded[0], is_coded=True):
            town = _NEXT_WORD.match(text.lower, coded.end())
            return town.end() if town and is_unknown(town[1]) else coded.end()
        if (town := _SMALL_TOWN_BEHIND.match(text.lower, end)) and _are_places(town[1]):
            return town.end()
        comma = _COMMA.match(text.lower, end)
        last = end
        for word in _PLAIN_WORD.finditer(text.lower, comma.end()) if comma else ():
            if word[0] in common_words() or word[0] in medical_words() or not _are_places(word[0]):
                break
            last = word.end()
            if text.lower[last : last + 1] not in (" ", "-"):
                break
        return last
    coded = _CODE_BEHIND.match(text.text, end)
    if coded and not _AMOUNT.match(text.lower, coded.end()) and _are_places(coded[0], is_coded=True):
        return coded.end()
    if (town := _TOWN_BEHIND.match(text.text, end)) and _are_places(town[1]):
        return town.end()
    return end


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
    none = load_words("identifiers", "no_towns", *([] if is_coded else ["common", "months_and_days"]))
    if any(word in none or is_medicine(word) for word in words):
        return False
    places = load_words("not_names", "places")
    return is_coded or not words or not all(word in common_words() and word not in places for word in words)
