"""The words that the rules ask for, each with the names of the tables that hold it.

Rules ask some fifty times whether a text has a word of some table. One pass over its words answers all of them.
"""

import functools
from importlib.resources import files

from medqa_cli.resources import load_words, load_yaml

# Words without which a rule finds nothing; of identifiers.yaml.
_ASKED = (
    "at_words",
    "mail_words",
    "profile_words",
    "own_site_words",
    "own_page_words",
    "phone_words",
    "record_words",
    "device_words",
    "account_words",
    "old_age_words",
    "street_words",
    "box_words",
    "clear_street_words",
    "foreign_street_words",
    "postcode_words",
    "home_words",
    "sign_words",
    "self_words",
    "degree_words",
    "age_words",
    "subject_words",
    "first_street_words",
    "flat_words",
    "in_brackets_words",
    "certain_labels",
    "telling_foreign_words",
)


@functools.cache
def first_names() -> frozenset[str]:
    """Return the first names of the table, in small letters."""
    return _words("first_names")


@functools.cache
def surnames() -> frozenset[str]:
    """Return the surnames of the table, in small letters."""
    return _words("surnames")


@functools.cache
def more_first_names() -> frozenset[str]:
    """Return rarer first names that are in no other table, in small letters."""
    return _words("more_first_names") | _words("world_first_names")


@functools.cache
def more_surnames() -> frozenset[str]:
    """Return rarer surnames that are in no other table, in small letters."""
    return _words("more_surnames") | _words("world_surnames")


@functools.cache
def medical_words() -> frozenset[str]:
    """Return words of medicine that are in no other table, in small letters."""
    return _words("medical_words")


@functools.cache
def common_words() -> frozenset[str]:
    """Return common words that are no names, in small letters, most of them without plurals and regular endings."""
    words = load_words("identifiers", "common", "no_names", "small_common", "no_name_words")
    return _words("common_words") | words | (no_names() - all_names())


@functools.cache
def no_names() -> frozenset[str]:
    """Return words of other languages, peoples, places and products; some are names as well."""
    return load_words("not_names", *load_yaml("not_names"))


def _words(table: str) -> frozenset[str]:
    text = files("medqa_cli.resources").joinpath(f"{table}.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


@functools.cache
def all_names() -> frozenset[str]:
    """Return the names of both tables."""
    return first_names() | surnames()


@functools.cache
def certain_names() -> frozenset[str]:
    """Return the names of the tables that are no other words."""
    return all_names() - load_words("identifiers", "ambiguous", "common", "no_names", "small_common", "eponyms")


@functools.cache
def bare_names() -> frozenset[str]:
    """Return the names of the tables that may be one without any word before them."""
    return all_names() - load_words("identifiers", "common", "no_names")


@functools.cache
def weights(section: str) -> dict[str, int]:
    """Return the weights that were learned for a section, by the names of their features; that of "" is the constant.

    They are in hundredths, so that their sum is the same in whatever order.

    Args:
        section: ``text`` for words that tell whether a text is about one person, ``name`` for features of a word.
    """
    lines = files("medqa_cli.resources").joinpath("name_weights.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line[len(section) + 1 :].rsplit("\t", 1) for line in lines if line.startswith(f"{section} "))
    return {name: round(100 * float(weight)) for name, weight in pairs}


@functools.cache
def months() -> dict[str, int]:
    """Return the number of each month's name, in small letters, without a point: ``{"jan": 1, "january": 1, ...}``."""
    names = load_yaml("identifiers")["months"]
    return {
        name: number for language in names.values() for number, row in enumerate(language, 1) for name in row.split()
    }


@functools.cache
def certain_months() -> frozenset[str]:
    """Return the names of months that are no other words."""
    return frozenset(months()) - {"may"}


@functools.cache
def tables_of_words() -> dict[str, frozenset[str]]:
    """Return for each word that rules for any text ask for the names of the tables that hold it."""
    tables = {name: load_words("identifiers", name) for name in _ASKED}
    tables |= {
        "mistyped_words": frozenset(mistyped_words()),
        "glue_words": glue_words(),
        "bare_names": bare_names(),
        "certain_names": certain_names(),
        "months": certain_months(),
        "may": frozenset({"may"}),
    }
    return _holding(tables)


@functools.cache
def cue_tables_of_words() -> dict[str, frozenset[str]]:
    """Return for each word of a cue the names of the tables that hold it: ends, and the groups of its needs."""
    tables = {f"{cue}_ends": load_words("identifiers", f"{cue}_ends") for cue in load_yaml("identifiers")["name_cues"]}
    tables["ends"] = frozenset().union(*tables.values())
    for section in ("cue_needs", "small_needs"):
        for cue, groups in load_yaml("identifiers")[section].items():
            tables |= {need(section, cue, place): frozenset(group.split()) for place, group in enumerate(groups)}
    return _holding(tables)


def _holding(tables: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    holding: dict[str, list[str]] = {}
    for name, words in tables.items():
        for word in words:
            holding.setdefault(word, []).append(name)
    shared: dict[tuple[str, ...], frozenset[str]] = {}
    return {word: shared.setdefault(tuple(names), frozenset(names)) for word, names in holding.items()}


@functools.cache
def asked_words() -> frozenset[str]:
    """Return the words of ``tables_of_words``."""
    return frozenset(tables_of_words())


@functools.cache
def known_words() -> frozenset[str]:
    """Return the words of all tables, and those that tell what a text is about."""
    return asked_words().union(cue_tables_of_words(), load_words("identifiers", "telling_words"))


@functools.cache
def glue_words() -> frozenset[str]:
    """Return the words behind which a mark and a name may stand without a space: ``dr.Lee``."""
    return load_words("identifiers", "glue_words")


@functools.cache
def mistyped_words() -> dict[str, str]:
    """Return for each likely typing error the word that was meant: ``{"sisetr": "sister", ...}``."""
    none = common_words() | all_names() | load_words("identifiers", *_ASKED)
    found = {}
    for word in sorted(load_words("identifiers", "often_mistyped")):
        vowels = [place for place in range(1, len(word)) if word[place] in "aeiou"]
        others = {word[:place] + vowel + word[place + 1 :] for place in vowels for vowel in "aeiou"}
        forms = typing_errors(word) | others
        found.update({form: word for form in forms if form not in none and form.removesuffix("s") not in none})
    return found


def typing_errors(word: str) -> set[str]:
    """Return a word with a letter too few or twice, and with two swapped; the first letter is missing in none."""
    places = range(1, len(word))
    swapped = {word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :] for place in places}
    return swapped | {word[:place] + word[place + more :] for place in places for more in (1, -1)}


def need(section: str, cue: str, place: int) -> str:
    """Return the name of the table that a group of words in ``cue_needs`` or ``small_needs`` makes."""
    return f"{section} {cue} {place}"
