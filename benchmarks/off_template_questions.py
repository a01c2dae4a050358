"""Asks the questions of a data folder's test split in words that neither MedQuAD nor the paraphrase bank uses.

It measures whether training on paraphrases helps with questions asked in other words. Rows whose question cannot be
asked otherwise are left out and counted. ``python benchmarks/off_template_questions.py DATA_DIR OUT_DIR``
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from medqa_cli.data.normalize import key_of, normalize, rank_of
from medqa_cli.data.topics.paraphrases import fill, is_title
from medqa_cli.data.topics.question_types import recognize
from medqa_cli.errors import InputError, MedqaError

OFF_TEMPLATE: dict[str, tuple[str, ...]] = {
    "information": (
        "Hi! My class has to present something on {lower} next week, could you help me with the basics?",
        "Just saw the words {topic} in a letter from the clinic. No idea what they stand for.",
        "{lower} - in short, what are we talking about here?",
        "heard of {lower} for the first time today, fill me in",
        "Suppose I had never come across {lower}. How would you introduce it to me?",
    ),
    "symptoms": (
        "Suppose somebody had {lower}, how would that person feel?",
        "what changes in the body give {lower} away",
        "Is there a checklist of complaints that are typical for {topic}?",
        "I worry it might be {lower}. What would I be feeling?",
    ),
    "treatment": (
        "Once {lower} has been found, what happens next at the hospital to get rid of it or ease it?",
        "What do medical teams usually prescribe or carry out against {topic}?",
        "need to know what helps with {lower}, pills, surgery, anything",
        "Say a patient comes in with {lower}: which remedies will be offered?",
    ),
    "causes": (
        "Why does anyone end up with {topic} in the first place?",
        "{lower} - where does that come from",
        "Is it known how {lower} starts?",
        "what goes wrong in the body so that {lower} appears",
    ),
    "exams and tests": (
        "If a doctor suspects {lower}, how is the suspicion confirmed?",
        "what will they do at the clinic to make sure it really is {lower}",
        "Scans, blood work, something else: what establishes that it is {topic}?",
        "how would anyone know for certain it is {lower}",
    ),
    "inheritance": (
        "Does {topic} come from one's parents, genetically speaking?",
        "{lower} - is that something that is handed on through the generations",
        "Through which genes of the mother or father, if any, does {lower} reach the next generation?",
        "Would relatives share {topic} because of their genes?",
    ),
    "frequency": (
        "Out of a million people, roughly how many would have {topic}?",
        "is {lower} something rare or do you meet it every day",
        "Got any statistics for {lower}? I wonder how unusual it is.",
        "Would a town of average size have many cases of {topic}?",
    ),
    "outlook": (
        "Years after being diagnosed with {topic}, how are patients usually doing?",
        "does {lower} get better or worse with time",
        "Be honest, what lies ahead of somebody who has {lower}?",
        "What are the chances of recovering from {topic}?",
    ),
    "susceptibility": (
        "Does {topic} strike certain people more than the rest of us?",
        "what sort of person has to watch out for {lower}",
        "age, sex, family, habits - which of them make {lower} more likely",
        "Whom should a doctor have an eye on where {lower} is concerned?",
    ),
    "prevention": (
        "I would rather never have to deal with {lower}. Any advice?",
        "what should one do or leave so as not to end up with {lower}",
        "Which habits keep {topic} away?",
        "Could {lower} have been avoided, and by doing what?",
    ),
    "genetic changes": (
        "What is different in the genome of somebody with {topic}?",
        "which part of our dna has to do with {lower}",
        "A lab would look at which genes when it comes to {lower}?",
    ),
    "research": (
        "Anything new from the labs about {topic}?",
        "is anybody working on {lower} scientifically, trials or so",
        "Which open questions about {lower} are being investigated at present?",
    ),
    "considerations": (
        "Now that {lower} is in our lives, what are we supposed to do?",
        "any tips for dealing with {lower}",
        "How does one handle {topic} day by day?",
    ),
    "stages": (
        "How far along can {lower} be, and what do doctors call each step?",
        "stage 1, stage 2 and so on, how does this work for {lower}",
        "By which scheme is the progress of {topic} graded?",
    ),
    "complications": (
        "What else may go wrong in the body because of {topic}?",
        "does {lower} bring further trouble with it, and which",
        "Which other health problems can follow from {lower}?",
    ),
    "support groups": (
        "Whom can people turn to when they are struggling with {topic}?",
        "anyone out there who helps with {lower}, groups or hotlines",
        "Is there a community for those facing {lower}?",
    ),
}


def off_template(question: str, seed: int) -> str | None:
    """Ask a question in words that the paraphrase bank does not hold.

    Args:
        question: raw or cleaned.
        seed: together with the question draws the wording.

    Returns:
        the same question in other words; None where its form is not recognized or its topic is a page's title.
    """
    form = recognize(question)
    if form is None or form.kind not in OFF_TEMPLATE or is_title(form.topic):
        return None
    asked = normalize(question)
    drawn = min(OFF_TEMPLATE[form.kind], key=lambda wording: rank_of(seed, "off_template", key_of(asked, wording)))
    return fill(drawn, form.topic)


def rewrite(line: str, seed: int) -> dict[str, Any] | None:
    """Return a row of a split with its question in other words, also inside ``text``; None where there are none."""
    row: dict[str, Any] = json.loads(line)
    question = off_template(row["question"], seed)
    if question is None:
        return None
    return {**row, "question": question, "text": row.get("text", "").replace(row["question"], question, 1)}


def main() -> int:
    """Write the test split once more, asked in other words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="a folder that medqa convert wrote")
    parser.add_argument("out_dir", type=Path, help="where test.jsonl is written; must not be the same folder")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    try:
        kept, left_out = write_split(arguments.data_dir, arguments.out_dir, arguments.seed)
    except MedqaError as error:
        print(f"{error.message}; {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"{arguments.out_dir / 'test.jsonl'}: {kept:,} rows asked in other words, {left_out:,} left out")
    return 0


def write_split(data_dir: Path, out_dir: Path, seed: int) -> tuple[int, int]:
    """Write the rewritten test split.

    Args:
        data_dir: a folder with ``test.jsonl``.
        out_dir: the folder to write ``test.jsonl`` to, made where it is missing.
        seed: draws the wordings.

    Returns:
        how many rows were written and how many left out.

    Raises:
        InputError: there is no test split, or it would be overwritten.
    """
    source = data_dir / "test.jsonl"
    if not source.is_file():
        raise InputError(f"no test split in {data_dir}", "run: medqa convert FILE")
    if out_dir.resolve() == data_dir.resolve():
        raise InputError(f"{out_dir} is the data folder itself", "name another folder: the test split must stay")
    # By line feeds alone: an answer may hold other line separators.
    lines = source.read_text(encoding="utf-8").split("\n")[:-1]
    rows = [row for line in lines if (row := rewrite(line, seed)) is not None]
    out_dir.mkdir(parents=True, exist_ok=True)
    with open(out_dir / "test.jsonl", "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return len(rows), len(lines) - len(rows)


if __name__ == "__main__":
    sys.exit(main())
