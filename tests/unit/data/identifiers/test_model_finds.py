"""What counts of the finds of a model, and how they go together with those of the rules."""

import re
from collections.abc import Callable, Mapping, Sequence

import pytest

from medqa_cli.data.identifiers import model_finds
from medqa_cli.data.identifiers.finds import Find
from medqa_cli.data.identifiers.model_finds import ModelSearch, Parts
from medqa_cli.errors import InputError


class Told:
    """A labeler that finds what it is told to find."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.read: list[list[str]] = []

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.values.values())))

    def label(self, texts: Sequence[str], tell: Callable[[float], None] = lambda share: None) -> list[Parts]:
        self.read.append(list(texts))
        tell(1.0)
        return [
            [
                (*found.span(), label)
                for value, label in self.values.items()
                for found in re.finditer(re.escape(value), text)
            ]
            for text in texts
        ]


Found = Callable[..., list[tuple[str, str, bool]]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """What is found by the model alone, or where the rules find ``by_rules``, values by their kind."""

    def find(
        question: str, values: Mapping[str, str], answer: str = "", **by_rules: str
    ) -> list[tuple[str, str, bool]]:
        texts = {"question": question, "answer": answer}
        own = [
            Find("question", question.index(value), question.index(value) + len(value), kind)
            for kind, value in by_rules.items()
        ]
        monkeypatch.setattr(model_finds, "find_in_texts", lambda texts: tuple(sorted(own)))
        monkeypatch.setattr(model_finds, "is_about_one_person", lambda *texts: False)
        finds = ModelSearch(Told(values), "folder").find(texts)
        assert list(finds) == sorted(finds, key=lambda find: (find.field != "question", find.start))
        return [(find.kind, texts[find.field][find.start : find.end], find.by_model) for find in finds]

    return find


@pytest.mark.parametrize(
    ("text", "value", "labels", "kind"),
    [
        ("Then came Xanvu Qurolm.", "Xanvu Qurolm.", "PER person PATIENT Staff DOCTOR HCW USERNAME First_Name", "name"),
        ("Seen by anna and aged 93 now", "aged 93", "AGE", "age"),
        ("Then dial 5551 2348 there", "5551 2348", "PHONE Phone_Number TELEPHONENUM", "phone"),
        ("It is 5551 2348 there", "5551 2348", "FAX", "fax"),
        ("Try qurolm@ xanvu now", "qurolm@ xanvu", "EMAIL", "email"),
        ("Look at kowalczyk-tales.site of late", "kowalczyk-tales.site", "URL", "profile"),
        ("It is Qurolm Terrace there", "Qurolm Terrace", "STREET STREET_ADDRESS", "address"),
        ("It is QX 8812 there", "QX 8812", "ZIP ZIPCODE LOC LOCATION-OTHER", "address"),
        ("It is QX-881234 there", "QX-881234", "ID MRN SSN MEDICALRECORD HEALTHPLAN ID_NUM", "record"),
        ("It is QX-881234 there", "QX-881234", "DEVICE", "device"),
        ("It is QX-881234 there", "QX-881234", "ACCOUNT LICENSE", "account"),
        ("It is 10.1.2.3 there", "10.1.2.3", "IP", "ip"),
    ],
)
def test_each_label_stands_for_a_kind(found: Found, text: str, value: str, labels: str, kind: str) -> None:
    for label in labels.split():
        wanted = {"name": "Xanvu Qurolm", "age": "93"}.get(kind, value)
        assert found(text, {value: label}) == [(kind, wanted, True)], label


@pytest.mark.parametrize(
    ("text", "value", "label"),
    [
        ("What is Parkinson disease?", "Parkinson", "PER"),
        ("Is it Parkinson or not?", "Parkinson", "PER"),
        ("I have Crohn's and cough.", "Crohn's", "PATIENT"),
        ("What causes Bell's palsy?", "Bell's", "PER"),
        ("Does Hashimoto go away?", "Hashimoto", "PER"),
        ("Take Metformin with food", "Metformin", "PER"),
        ("A test for Hepatitis", "Hepatitis", "PER"),
        ("Johns Hopkins Hospital treats it", "Johns Hopkins", "PER"),
        ("Robert Koch discovered it", "Robert Koch", "PER"),
        ("It affects Europeans", "Europeans", "PER"),
        ("We live in Springfield now", "Springfield", "LOC"),
        ("I moved to Norway", "Norway", "LOCATION"),
        ("I moved to Springfield", "Springfield", "CITY"),
        ("He is 85 years old", "85", "AGE"),
        ("Call the helpline at 555-201-3345 for help", "555-201-3345", "PHONE"),
        ("Call 1-800-555-0199 for help", "1-800-555-0199", "PHONE"),
        ("Write to info@hospital.org for help", "info@hospital.org", "EMAIL"),
        ("See www.cancer.gov for more", "www.cancer.gov", "URL"),
        ("The trial NCT01234567 is open", "NCT01234567", "ID"),
        ("A mutation of BRCA1 was seen", "BRCA1", "ID"),
        ("It was in 1987 that it began", "1987", "ID"),
        ("Version 1.2.3.4.5 is out", "1.2.3.4.5", "IP"),
        ("FDA approved it on March 3, 2015.", "March 3, 2015", "DATE"),
        ("The outbreak began on March 3, 2015.", "March 3, 2015", "DATE"),
        ("Anything", "Anything", "ORG"),
    ],
)
def test_what_the_rules_leave_alone_stays(found: Found, text: str, value: str, label: str) -> None:
    assert found(text, {value: label, "unheard of": "PER"}) == []


def test_a_date_counts_where_something_else_identifies_a_person(found: Found) -> None:
    text = "Qurolm began on March 3, 2015 with it, and in 2016 or on a Monday."
    labels = {"March 3, 2015": "DATE", "2016": "DATE", "Monday": "DATE", "nothing": "PER"}
    assert found(text, labels) == []
    assert found(text, labels | {"Qurolm": "PER"}) == [("name", "Qurolm", True), ("date", "March 3, 2015", True)]


def test_finds_of_one_kind_that_overlap_are_one_over_both(found: Found) -> None:
    text = "Dear Anna Kowalczyk, thank you."
    assert found(text, {"Kowalczyk": "PER"}, name="Kowalczyk") == [("name", "Kowalczyk", False)]
    assert found(text, {"Kowalczyk,": "PER"}, name="Kowalczyk") == [("name", "Kowalczyk", False)]
    assert found(text, {"Kowal": "PER"}, name="Kowalczyk") == [("name", "Kowalczyk", False)]
    assert found(text, {"Anna Kowalczyk": "PER"}, name="Kowalczyk") == [("name", "Anna Kowalczyk", True)]
    assert found(text, {"Kowalczyk, thank": "PER"}, name="Anna Kowalczyk") == [("name", "Anna Kowalczyk, thank", True)]


def test_of_two_kinds_the_rules_find_stays_and_the_models_is_cut(found: Found) -> None:
    text = "It is Anna Kowalczyk 555-201-3345 qurolm."
    rules = {"name": "Anna Kowalczyk", "phone": "555-201-3345"}
    both = [("name", "Anna Kowalczyk", False), ("phone", "555-201-3345", False)]
    assert found(text, {"555-201-3345": "MRN"}, **rules) == both  # the same words
    assert found(text, {"Kowalczyk 555-201-3345 qurolm": "PER"}, **rules) == [*both, ("name", "qurolm", True)]
    # All of a record is changed, so the longer find covers the other.
    covered = [both[0], ("record", "555-201-3345 qurolm", True)]
    assert found(text, {"555-201-3345 qurolm": "MRN"}, **rules) == covered
    assert found(text, {"555-201-3345 qurolm": "PHONE"}, name="qurolm") == [
        ("phone", "555-201-3345", True),
        ("name", "qurolm", False),
    ]


def test_what_is_left_of_a_number_that_the_rules_find_is_no_find_of_the_model(found: Found) -> None:
    text = "It is Fax: 212-555-0199 and MRN 1234567 qurolm."
    rules = {"fax": "212-555-0199", "record": "1234567"}
    both = [("fax", "212-555-0199", False), ("record", "1234567", False)]
    assert found(text, {"Fax: 212-555-0199": "PHONE", "MRN 1234567": "PHONE"}, **rules) == both


@pytest.mark.parametrize("label", ["ADDRESS", "MRN"])
def test_a_name_that_the_rules_find_is_no_part_of_an_address_or_a_number_of_the_model(found: Found, label: str) -> None:
    """What is put for an address keeps words of streets: Georgia Brooks would stay."""
    kind = {"ADDRESS": "address", "MRN": "record"}[label]
    text = "It is Georgia Brooks, 1213 Elm Street."
    assert found(text, {"Georgia Brooks, 1213 Elm Street": label}, name="Georgia Brooks") == [
        ("name", "Georgia Brooks", False),
        (kind, "1213 Elm Street", True),
    ]


def test_first_and_last_name_side_by_side_are_one_find(found: Found) -> None:
    labels = {"Xanvu": "GIVENNAME", "Qurolm": "SURNAME"}
    assert found("Then Xanvu Qurolm fell", labels) == [("name", "Xanvu Qurolm", True)]
    assert found("Then Xanvu, Qurolm fell", labels) == [("name", "Xanvu", True), ("name", "Qurolm", True)]
    assert found("Then Xanvu Xanvu fell", labels) == [("name", "Xanvu", True), ("name", "Xanvu", True)]


def test_a_name_of_the_model_is_found_wherever_it_stands_in_the_row(found: Found) -> None:
    text, answer = "Then came Xanvu Qurolm.", "Has Qurolm pain? Qurolm's disease is none."
    names = found(text, {"Xanvu Qurolm": "PER"}, answer)
    assert names == [("name", "Xanvu Qurolm", True), ("name", "Qurolm", True)]


def test_marks_around_a_part_are_none_of_it(found: Found) -> None:
    for text, value, wanted in (
        ("Then (Xanvu Qurolm), too", "(Xanvu Qurolm", "Xanvu Qurolm"),
        ("Then Xanvu Q. came", "Xanvu Q.", "Xanvu Q."),
        ("Then Xanvu Qurolm's car", "Xanvu Qurolm's", "Xanvu Qurolm"),
    ):
        assert found(text, {value: "PER"}) == [("name", wanted, True)]
    assert found("It is (555) 12348 there", {"(555) 12348": "PHONE"}) == [("phone", "(555) 12348", True)]


def test_texts_that_were_prepared_are_not_read_again() -> None:
    told = Told({"Qurolm": "PER"})
    search, shares = ModelSearch(told, "folder"), list[float]()
    search.prepare(["a Qurolm", "b", "b"], shares.append)
    search.find({"question": "a Qurolm", "answer": "b"})
    assert (told.read, shares) == ([["a Qurolm", "b"]], [1.0])
    search.find({"question": "c", "answer": "b"})
    assert told.read[1:] == [["c", "b"]]


def test_a_model_without_a_known_label_is_refused_and_unknown_labels_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(InputError, match="none of the labels of the model in here is known: 'GENE', 'LABEL_1', 'ORG'"):
        ModelSearch(Told({"a": "LABEL_1", "b": "ORG", "c": "GENE"}), "here")
    search = ModelSearch(Told({"a": "PER", "b": "ORG", "c": "GENE", "d": "LOC", "e": "PATIENT"}), "here")
    assert capsys.readouterr().err.splitlines() == ["here: labels that medqa does not know, and leaves aside: 'GENE'"]
    assert search.as_json() == {"path": "here", "labels": {"address": ["LOC"], "name": ["PATIENT", "PER"]}}
