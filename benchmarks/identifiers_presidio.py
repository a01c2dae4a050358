"""What Presidio finds in texts: a part of ``benchmarks/identifiers.py``, run by the Python that has Presidio.

    python benchmarks/identifiers_presidio.py TEXTS.json FINDS.json --spacy-model FOLDER

Reads a list of texts; writes for each of two settings the list of spans of each text: as it comes (all recognizers that
are on, score threshold 0) and configured (a threshold of 0.4, only the entities that name a person or a number, further
recognizers and patterns for record, device and account numbers with their context words).
"""

import argparse
import json
from pathlib import Path
from typing import Any

KINDS = {
    "PERSON": "name",
    "DATE_TIME": "date",
    "AGE": "age",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "URL": "profile",
    "LOCATION": "address",
    "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "device",
    "CREDIT_CARD": "account",
    "IBAN_CODE": "account",
    "US_BANK_NUMBER": "account",
    "US_DRIVER_LICENSE": "account",
    "US_PASSPORT": "account",
}


def analyzer(model: Path, configured: bool) -> Any:
    """Return the analyzer; its spaCy model is a folder, so that nothing is downloaded."""
    from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": str(model)}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine())
    if configured:
        number = r"\b[A-Z]{0,3}-?\d[\dA-Z-]{4,16}\b"
        for kind, context in (
            ("RECORD_NUMBER", ["mrn", "record", "hospital", "insurance", "member", "policy", "ssn", "social", "nhs"]),
            ("DEVICE_NUMBER", ["serial", "device", "vin", "mac"]),
            ("ACCOUNT_NUMBER", ["account", "license", "passport", "card"]),
        ):
            patterns = [Pattern(kind.lower(), number, 0.2)]
            engine.registry.add_recognizer(PatternRecognizer(kind, patterns=patterns, context=context))
        zip_code = Pattern("zip", r"\b[A-Z]{2},? \d{5}(?:-\d{4})?\b", 0.5)
        street = Pattern(
            "street", r"\b\d{1,5} (?:[A-Z][\w.]+ ){1,3}(?:St|Street|Ave|Avenue|Rd|Road|Lane|Drive|Court)\b", 0.6
        )
        engine.registry.add_recognizer(PatternRecognizer("LOCATION", patterns=[zip_code, street]))
        age = Pattern("age", r"\b(?:9\d|10\d)(?=[ -]years?[ -]old)", 0.6)
        engine.registry.add_recognizer(PatternRecognizer("AGE", patterns=[age]))
    return engine


def main() -> None:
    """Write what is found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("finds", type=Path)
    parser.add_argument("--spacy-model", type=Path, required=True)
    options = parser.parse_args()
    texts = json.loads(options.texts.read_text(encoding="utf-8"))
    finds: dict[str, list[list[tuple[int, int, str]]]] = {}
    for name, configured in (("presidio, as it comes", False), ("presidio, configured", True)):
        engine = analyzer(options.spacy_model, configured)
        finds[name] = []
        for text in texts:
            found = engine.analyze(text=text, language="en", score_threshold=0.4 if configured else 0)
            kept = [item for item in found if not (configured and item.entity_type in ("NRP", "URL", "ORGANIZATION"))]
            finds[name].append([(item.start, item.end, KINDS.get(item.entity_type, "record")) for item in kept])
    options.finds.write_text(json.dumps(finds), encoding="utf-8")


if __name__ == "__main__":
    main()
