"""The report of ``medqa convert``: its counts and warnings, and how a person reads it in ten seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.audit import HELD_OUT, LEAK_KINDS, Audit
from medqa_cli.data.cleaning.reasons import REASONS, how_to_keep
from medqa_cli.data.cleaning.rules import enabled_rules
from medqa_cli.data.dataset import INDEX_NAME, LENGTHS_NAME, REJECTED_NAME, SPLITS
from medqa_cli.data.examples import IdentifierExample, RuleExample
from medqa_cli.data.filtering import Filtered
from medqa_cli.data.identifiers import finds
from medqa_cli.data.languages import UNKNOWN, has_other_languages, num_foreign
from medqa_cli.data.reading.shapes import Columns, place_of
from medqa_cli.data.topics.topics import count_topics
from medqa_cli.data.writing import Written
from medqa_cli.errors import MedqaError
from medqa_cli.spelling import by_count

MOST_REJECTED_IN_SILENCE = 0.2  # fraction of the rows that one reason may take without a warning
FEWEST_WARNED_OF = 3  # rows
FEWEST_OF_ONE_TOPIC = 5  # rows
_SHARED = ("question", "answer", "near copy", "topic")  # the headings of ``audit.LEAK_KINDS``


def conversion_counts(
    columns: Columns,
    filtered: Filtered,
    places: Sequence[str],
    by_page: bool,
    written: Written,
    data: DataConfig,
    identifiers: dict[str, Any],
) -> dict[str, Any]:
    """Return the part of ``report.json`` that counts rows.

    Args:
        columns: those of the source.
        filtered: what the first pass found out.
        places: for each row that passed its split, or why it is rejected.
        by_page: rows of one page were kept together, because their topics do not show what belongs together.
        written: what the second pass wrote.
        data: the section of the config.
        identifiers: the entry of identifiers.
    """
    counts: dict[str, Any] = {
        "rows": {
            "read": filtered.read,
            "kept": sum(written.splits.values()),
            "rejected": dict(sorted(written.rejected.items())),
        },
        "splits": written.splits,
        "paraphrases": written.paraphrases,
        "topics": _topics(columns, filtered, places, by_page, written.languages),
        "encoding": {"named": data.encoding, "garbled_rows": written.garbled},
        "languages": dict(by_count(written.languages)),
        "identifiers": identifiers,
        "cleaning": {rule: written.changed[rule] for rule in enabled_rules(data.cleaning)},
    }
    if data.turns != "reject":
        counts["conversations"] = {
            "turns": data.turns,
            "read": filtered.conversations,
            "answers": filtered.answers,
            "open_questions": filtered.open_questions,
            "rows_with_earlier_turns": written.with_earlier,
        }
    if data.context_column is not None:
        counts["contexts"] = {"column": data.context_column, "rows": written.with_context}
    return counts


def _topics(
    columns: Columns, filtered: Filtered, places: Sequence[str], by_page: bool, spoken: Mapping[str, int]
) -> dict[str, Any]:
    column = columns.source if by_page else None if filtered.by_question else columns.topic
    keys = zip(filtered.keys, places, strict=True)
    counts = count_topics(key.page if by_page else key.topics for key, place in keys if place in SPLITS)
    foreign = num_foreign(spoken)
    if counts.doubt and (counts.known or foreign):
        why = f" ({foreign:,} rows are not in English, whose questions alone tell a topic)" if foreign else ""
        console.warn(
            f"{counts.doubt}{why}: whether held-out rows share their topic with train is not known; "
            "a column that names what a row is about, or the page it is from, would tell: --set data.topic_column=NAME"
        )
    name = None if column is None else columns.names[column]
    # What the column does not name is found in the questions.
    asked = sum(asked and place in SPLITS for asked, place in zip(filtered.asked, places, strict=True))
    from_questions = counts.known if filtered.by_question and not by_page else asked
    return {"column": name, "pages": by_page, "from_questions": from_questions} | counts.as_json()


def check_counts(report: dict[str, Any]) -> None:
    """Check that each row read is in a split or rejected.

    Raises:
        MedqaError: the counts do not add up.
    """
    rows, splits = report["rows"], report["splits"]
    rejected = sum(rows["rejected"].values())
    if rows["read"] != rows["kept"] + rejected or rows["kept"] != sum(splits.values()):
        raise MedqaError(
            f"rows do not add up: {rows['read']} read, {rows['kept']} kept, {rejected} rejected, splits {splits}",
            "this is a fault of medqa; nothing was written",
        )


def warn_of_garbled(written: Written) -> None:
    """Warn of kept rows that were decoded wrongly before medqa read them."""
    if written.garbled:
        console.warn(
            f"{written.garbled:,} kept rows hold signs that a wrong decoding leaves, or lost characters (U+FFFD); the "
            f"first: {'; '.join(written.garbled_rows)}. They were in the source: export it again as UTF-8"
        )


def warn_of_one_topic(filtered: Filtered, places: Sequence[str]) -> None:
    """Warn of held-out splits whose rows are all about one thing: their figures say nothing about others."""
    for split in HELD_OUT:
        topics = [key.topics for key, place in zip(filtered.keys, places, strict=True) if place == split]
        if len(topics) >= FEWEST_OF_ONE_TOPIC and topics[0] and len(set(topics)) == 1:
            console.warn(
                f"all {len(topics):,} rows of {split} are about one topic, so that figures on them say nothing about "
                "others; rows about more topics, or another seed, would help"
            )


def warn_of_frequent_reasons(filtered: Filtered, written: Written) -> None:
    """Warn of reasons that took so many rows that they may be wrong about this source."""
    for reason, count in written.rejected.most_common():
        few = count < FEWEST_WARNED_OF or count <= MOST_REJECTED_IN_SILENCE * filtered.read
        if few or reason == "not_sampled":
            continue
        option = how_to_keep(reason) if count > filtered.unreadable[reason] else ""
        console.warn(
            f"{reason} takes {count:,} of {filtered.read:,} rows ({100 * count / filtered.read:.0f} %), the first: "
            f"{written.examples[reason]}; look at {REJECTED_NAME}"
            + (f", and if these rows are good: {option}" if option else "")
        )


def show(report: dict[str, Any], advice: str, out_dir: Path) -> None:
    """Print the report of a conversion to stdout.

    Args:
        report: what ``convert.convert`` returned.
        advice: a sentence on the long answers; empty: none.
        out_dir: the folder that was written.
    """
    rows = report["rows"]
    lines = [["read", f"{rows['read']:,}", ""], ["kept", *_counted(rows["kept"], rows["read"])]]
    lines += [[f"rejected: {name}", *_counted(count, rows["read"])] for name, count in by_count(rows["rejected"])]
    cleaned = [(name, count) for name, count in by_count(report["cleaning"]) if count]
    lines += [[f"kept, changed by: {name}", *_counted(count, rows["kept"])] for name, count in cleaned]
    console.table(f"{report['source']['path']} ({report['seconds']:.1f} s)", lines, header=("rows", "", "share"))
    show_splits(report["splits"], report["leakage"], report["short_answers"])
    topics = report["topics"]
    named = f"column '{topics['column']}'" if topics["column"] else None
    if named and topics["from_questions"] and not topics["pages"]:
        named += f" ({topics['from_questions']:,} from the questions, where it names none)"
    origin = named or ("the names of the files" if topics["pages"] else "the questions")
    pages = "; rows from one page were kept together, because topics say too little" if topics["pages"] else ""
    _show_topics(topics, rows["kept"], f", from {origin}{pages}")
    if has_other_languages(report["languages"]):
        console.line("languages: " + languages(report["languages"]))
    if "documents" in report:
        _show_documents(report["documents"], report["splits"])
    if report["paraphrases"]:
        console.line(f"paraphrases: {report['paraphrases']:,} more training questions, not counted above")
    if "canaries" in report:
        planted = report["canaries"]
        where = (
            f"{planted['rows']:,} with their copies, in train and not counted above: what is trained on them is for "
            "the test of memorization only, see medqa eval"
            if planted["rows"]
            else "none of which is in train"
        )
        console.line(f"canaries: {planted['planted']:,} made-up rows, {where}")
    _show_given(report)
    _show_identifiers(report["identifiers"])
    if has_other_languages(report["languages"]):
        foreign = num_foreign(report["languages"])
        console.line(f"  more is overlooked in the {foreign:,} rows that are in other languages: read some yourself")
    if report["tokens"] is not None:
        answer = report["tokens"]["answer"]
        console.line("tokens of an answer: " + ", ".join(f"{name} {count:,}" for name, count in answer.items()))
        console.line(advice)
    if cleaned:
        console.line(f"what a rule changes: medqa convert --show {cleaned[0][0]}")
    files = "README.md, report.json" + (f", {LENGTHS_NAME}" if report["tokens"] else "")
    rejected = f"; the rejected rows: {REJECTED_NAME}" if rows["rejected"] else ""
    console.line(f"written to {out_dir} ({files}{rejected})")


def _show_given(report: dict[str, Any]) -> None:
    """Print what became of conversations and contexts."""
    if found := report.get("conversations"):
        learned = {"first": "the first answer", "last": "the last answer", "all": "each answer"}[found["turns"]]
        unanswered = f", {found['open_questions']:,} end with a question" if found["open_questions"] else ""
        console.line(
            f"conversations: {found['read']:,} with {found['answers']:,} answers{unanswered}; {learned} is a row, "
            f"{found['rows_with_earlier_turns']:,} rows have earlier turns"
        )
    tokens = report["tokens"] or {}
    if "rows_cut_at_turns" in tokens:
        console.line(
            f"  {tokens['rows_cut_at_turns']:,} of them lose {tokens['turns_left_out']:,} earlier turns, which take "
            "more than half of model.max_length"
        )
    if found := report.get("contexts"):
        console.line(f"contexts: {found['rows']:,} rows have one, of '{found['column']}'")


def _show_identifiers(found: dict[str, Any]) -> None:
    """Print how many identifiers of persons there are of each kind, or that there is none."""
    how = f"the rules know {', '.join(found['languages'])}"
    if "model" in found:
        how += f"; beside them looked the model in {found['model']['path']}"
    if not found["kinds"]:
        console.line(f"identifiers of persons: none found ({how})")
        return
    columns = {"finds": "finds", "by_model": "by the model only", "rows": "rows", "train_rows": "train rows"}
    if "model" not in found:
        del columns["by_model"]
    lines = [[finds.KINDS[kind], *(f"{counts[name]:,}" for name in columns)] for kind, counts in found["kinds"].items()]
    whole = {"rows": f"{found['rows']:,}", "train_rows": f"{found['train_rows']:,}"}
    lines.append(["any of them", *(whole.get(name, "") for name in columns)])
    what = {"report": "", "replace": ", replaced by stand-ins", "reject": ", their rows rejected"}[found["setting"]]
    console.table(
        f"what looks like identifiers of persons ({how}){what}",
        lines,
        header=("kind", *columns.values()),
    )


def warn_of_identifiers(found: dict[str, Any], train_rows: int) -> None:
    """Warn of training rows that hold identifiers of persons; no value is shown."""
    if found["setting"] != "report" or not found["train_rows"]:
        return
    kinds = ", ".join(
        f"{finds.KINDS[kind]} {counts['train_rows']:,}"
        for kind, counts in found["kinds"].items()
        if counts["train_rows"]
    )
    console.warn(
        f"{found['train_rows']:,} of {train_rows:,} training rows hold what looks like identifiers of persons "
        f"({kinds}); a model that is trained on them may give them away. Look: medqa convert --show identifiers; put "
        "others for them: --set data.identifiers=replace"
    )


def show_identifiers(shown: Sequence[IdentifierExample]) -> None:
    """Print finds in their context."""
    if not shown:
        console.line("no identifiers of persons were found in this source")
    for example in shown:
        console.line(
            f"{place_of(example.file, example.row, example.line)}, {example.field}, {example.kind}"
            f"{' (by the model)' if example.by_model else ''}: {example.found}"
        )
        console.line(f"  {example.context}")


def show_audit(audit: Audit, folder: Path) -> None:
    """Print the audit of a folder to stdout."""
    console.line(f"audit of {folder}")
    show_splits(audit.rows, audit.leakage, audit.short_answers)
    _show_topics(audit.topics.as_json(), audit.topics.rows, "")
    for example in audit.examples:
        console.line(f"  {example['leak']}: {example['row']} and {example['also']}")


def _show_topics(topics: dict[str, Any], rows: int, origin: str) -> None:
    doubt = f"; shared ones are not known, as {topics['doubt']}" if topics["doubt"] else ""
    console.line(f"topics: {topics['distinct']:,}, known for {topics['known']:,} of {rows:,} rows{origin}{doubt}")


def _show_documents(documents: dict[str, Any], splits: dict[str, int]) -> None:
    skipped = f", {len(documents['skipped']):,} left out" if documents["skipped"] else ""
    console.line(
        f"documents: {len(documents['files']):,} files{skipped}, {documents['passages']:,} passages in {INDEX_NAME}"
    )
    held = {name: count for name, count in documents["answers_held_out"].items() if count}
    counts = " and ".join(f"{count:,} of {splits[name]:,} {name} rows" for name, count in held.items())
    console.line(
        f"  they hold the answers of {counts}: with them, an eval is one with an open book"
        if held
        else "  they hold no answer of a held-out row"
    )


def show_splits(
    splits: dict[str, int], leakage: dict[str, dict[str, int | None]], short_answers: dict[str, int]
) -> None:
    """Print the splits, and what the held-out ones share with those that they are held out from."""
    whole = sum(splits.values())
    lines, alarming = [], set()
    for number, name in enumerate(SPLITS):
        line = [name, *_counted(splits[name], whole)]
        for kind in LEAK_KINDS if name in HELD_OUT and splits[name] else ():
            count = leakage[name][kind]
            if count:
                alarming.add((number, len(line)))
            line.append("unknown" if count is None else f"{count:,}")
        lines.append(line)
    title = "held-out rows whose question, answer (or a near copy of it) or topic stands in another split"
    console.table(title, lines, header=("split", "rows", "share", *_SHARED), alarming=alarming)
    if any(short_answers.values()):
        counts = " and ".join(
            f"{count:,} of {splits[name]:,} in {name}" for name, count in short_answers.items() if count
        )
        console.line(
            f"short answers (yes, no, an option, the answer to many questions): {counts}; they count as shared only "
            "where the question is shared too, or nearly"
        )


def show_rule(rule: str, examples: list[RuleExample]) -> None:
    """Print what a cleaning rule does to some rows, before and after, or which answers a reason leaves out."""
    is_reason = rule in REASONS
    if not examples:
        console.line(f"{rule} {'takes' if is_reason else 'changes'} no row of this source")
    for example in examples:
        console.line(f"{place_of(example.file, example.row, example.line)}, {example.field}")
        console.line(f"  {'left out' if is_reason else 'before'}: {example.before}")
        if not is_reason:
            console.line(f"  after:  {example.after}")


def languages(counts: dict[str, int]) -> str:
    """Return ``12,000 en, 3 fr, 2 not told``."""
    return ", ".join(f"{count:,} {'not told' if name == UNKNOWN else name}" for name, count in by_count(counts))


def _counted(count: int, whole: int) -> list[str]:
    return [f"{count:,}", f"{100 * count / whole:.1f} %" if whole else ""]
