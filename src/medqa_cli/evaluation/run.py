"""The work of ``medqa eval``: measure models on a held-out split; write samples, metrics and the report."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import cards, console, distributed, environment, hub, spelling
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import QaRow, encode_rows, evenly_spaced, read_split, report_of
from medqa_cli.errors import InputError, Interrupted
from medqa_cli.evaluation import gate, metrics, multiple_choice, overlap
from medqa_cli.evaluation.arms import Arm, ask_in_other_words, make_arms, passage_baselines
from medqa_cli.evaluation.baselines import UNIGRAM, baseline_answers, baseline_sample, unigram_scores
from medqa_cli.evaluation.measuring import Work, measure
from medqa_cli.evaluation.memorization.measure import prepare
from medqa_cli.evaluation.memorization.section import with_memorization
from medqa_cli.evaluation.openai_client import PREFIX, connect
from medqa_cli.evaluation.results import make_results, pairs_of, write_all
from medqa_cli.evaluation.samples import Questions, Sample, make_questions, samples_of
from medqa_cli.files import CARD_NAME, MODEL_NAMES, RunFolder, atomic_file, locked, sha256_of_file
from medqa_cli.journal import SharedJournal
from medqa_cli.model.gguf_model import OF_RUN, require_file_of_run
from medqa_cli.model.load import base_of_adapter, load_config, load_tokenizer, num_embeddings
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.encoder import PromptEncoder


def evaluate(
    config: Config,
    models: Sequence[str],
    limit: int | None,
    conditions: Sequence[gate.Condition] = (),
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the models, write ``samples.jsonl`` and the other files, and return the content of ``results.json``.

    An interrupted run goes on where it was.

    Args:
        config: the run, its data, and what is measured how.
        models: of ``MODEL_NAMES``, or ``openai:URL``.
        limit: ask only this many questions; None: all.
        conditions: of ``--fail-on``.
        options: those of the command line that name the config, for the command that is given next.

    Raises:
        InputError: an unknown model name, no data, or no adapter.
    """
    hub.name_repository(config.model.name_or_path)
    run = config.run
    work, copies = _prepare(config, models, limit)
    fingerprint = work.fingerprint()
    console.doing("measuring ...")
    with contextlib.ExitStack() as stack:
        distributed.from_main(lambda: stack.enter_context(locked(run.eval_dir, "medqa eval")))
        journal = stack.enter_context(SharedJournal(run.eval_dir, fingerprint))
        if journal.num_done:
            console.note(f"resuming an interrupted evaluation: {journal.num_done} pieces of work are done")
        if journal.set_aside:
            console.note(what_is_set_aside(journal.set_aside))
        try:
            samples, choices, answered_by = measure(work, journal)
        except KeyboardInterrupt:
            message = f"interrupted; {journal.num_done} finished pieces of work are kept"
            raise Interrupted(message, "give the same command again to resume") from None

        console.doing("computing the figures ...")

        def write() -> dict[str, Any]:
            baselines = _baselines(work)
            baselines |= {name: _copies(name, work.questions, texts) for name, texts in copies.items()}
            settings = {**work.settings(limit), "answered_by": answered_by}
            results = make_results(samples, baselines, choices, config.eval, config.seed, settings)
            if work.search is not None:
                found = work.search.results(pairs_of(name for name in work.local if name != OF_RUN), config)
                results = with_memorization(results, found, config.eval.metric_names)
            results = gate.with_gate(results | {"leakage": _leakage(config), "options": list(options)}, conditions)
            write_all(run, samples, baselines, results)
            if "memorization" in results:
                _fill_card(run, results["memorization"]["sentences"].get("adapter", ()))
            return results

        results = distributed.from_main(write)
        journal.finish()
    return results


def what_is_set_aside(pieces: Mapping[str, Any]) -> str:
    """Say how much an interrupted evaluation of other settings had finished; ``pieces``: as the journal has them."""
    answers = sum(
        len(piece) for name, piece in pieces.items() if name.startswith("answers/") and isinstance(piece, list)
    )
    kept = spelling.with_noun(answers, "answer") if answers else f"{spelling.with_noun(len(pieces), 'piece')} of work"
    return (
        f"set aside: {kept} of an interrupted evaluation with other questions, settings or weights, in "
        "interrupted-*.jsonl beside the results; its own command goes on from there"
    )


def _prepare(config: Config, models: Sequence[str], limit: int | None) -> tuple[Work, dict[str, list[str]]]:
    """Return what is measured, and the texts of the baselines that copy a passage."""
    run = config.run
    local, addresses = _local_and_served(models, config)
    console.doing("reading the questions ...")
    rows = _rows(config)
    items = multiple_choice.read_choice_files(config.eval.multiple_choice)
    served = connect(addresses[0], config.prompt.system) if addresses else None
    console.doing("preparing the questions ...")
    encoder: PromptEncoder | None = None
    folders: list[Path] = []
    if local:
        base = base_of_adapter(run.adapter_dir)
        contract, tokenizer = PromptContract.load(run.adapter_dir), load_tokenizer(str(run.adapter_dir))
        encoder = PromptEncoder(contract, tokenizer, num_embeddings(load_config(base.location, base.revision)))
        folders = [run.adapter_dir, Path(base.location), *([run.merged_dir] if "merged" in local else [])]
    questions = make_questions(rows, evenly_spaced(rows, limit), encoder, config.model.max_length)
    arms: dict[str, Arm] = {}
    copies: dict[str, list[str]] = {}
    if encoder is not None and encoder.contract.text.sources and metrics.text_metrics(config.eval.metric_names):
        before, questions = questions.rows, ask_in_other_words(questions, config.seed)
        rules = config.sources.reviewed_first is not False
        arms, by_bm25 = make_arms(questions, before, rows, Path(config.data.dir), encoder, rules)
        copies = passage_baselines(before, arms, by_bm25, encoder)
    search = None if encoder is None or set(local) == {OF_RUN} else prepare(config, encoder, rows, limit)
    return Work(config, local, folders, served, encoder, questions, arms, items, search), copies


def _fill_card(run: RunFolder, sentences: Sequence[str]) -> None:
    """Write what was found of the adapter's memory into its card, so that it travels with the weights."""
    path = run.adapter_dir / CARD_NAME
    try:
        before = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return  # somebody else's card, or none
    after = cards.with_measured(before, sentences) if sentences else before
    if after != before:
        with atomic_file(path) as file:
            file.write(after)


def _local_and_served(names: Sequence[str], config: Config) -> tuple[tuple[str, ...], list[str]]:
    """Tell models that are loaded here from addresses of servers; refuse what cannot be measured."""
    addresses = [name for name in names if name.startswith(PREFIX)]
    local = tuple(name for name in names if name not in addresses)
    unknown = [name for name in local if name not in MODEL_NAMES]
    if unknown or not names:
        known = f"known: {', '.join(sorted(MODEL_NAMES))}, or {PREFIX}URL of a server"
        raise InputError(f"--model: unknown model {', '.join(unknown) or '(none)'}", known)
    if len(addresses) > 1:
        raise InputError("--model names two servers", "measure one after the other, each with a run_dir of its own")
    if "merged" in local and not config.run.merged_dir.is_dir():
        raise InputError(f"no merged model in {config.run.merged_dir}", "make one: medqa merge")
    if OF_RUN in local:
        require_file_of_run(config)
    if addresses and not metrics.text_metrics(config.eval.metric_names):
        raise InputError("only answers can be measured for a served model", "set eval.metrics to all, or leave it out")
    return local, addresses


def _rows(config: Config) -> list[QaRow]:
    data_dir = Path(config.data.dir)
    rows = read_split(data_dir, config.eval.split)
    if not rows:
        raise InputError(f"the {config.eval.split} split of {data_dir} is empty", "set eval.split, or convert again")
    if _is_of_these_data(config) is False:
        console.warn(
            f"{data_dir} was converted again after {config.run.path} was trained: the {config.eval.split} split may "
            "hold questions that were trained on"
        )
    unread = sum(not overlap.is_read_by_rouge(row.answer) for row in rows)
    if unread and any(name.startswith("rouge") for name in config.eval.metric_names):
        console.warn(
            f"{unread} of {len(rows)} reference answers have no ASCII letter or digit, and ROUGE reads nothing else: "
            "answers to them score 0; go by chrf"
        )
    return rows


def _is_of_these_data(config: Config) -> bool | None:
    """Tell whether the run was trained on the data as they are now; None: it does not say."""
    trained_on = environment.recorded_settings(config.run).get(environment.TRAIN_SHA256)
    return None if trained_on is None else trained_on == sha256_of_file(Path(config.data.dir) / "train.jsonl")


def _leakage(config: Config) -> dict[str, Any] | None:
    """Return how many rows of the split stand in another one, as the audit of ``medqa convert`` counted them.

    None: that is not known of the data that the run was trained on.
    """
    report = report_of(Path(config.data.dir)) if _is_of_these_data(config) else None
    counts = report.get("leakage", {}).get(config.eval.split) if report is not None else None
    return dict(counts) if isinstance(counts, dict) else None


def _baselines(work: Work) -> dict[str, list[Sample]]:
    config, encoder, questions = work.config, work.encoder, work.questions
    train = read_split(Path(config.data.dir), "train")
    baselines: dict[str, list[Sample]] = {}
    if encoder is not None and work.wants_likelihood:
        encoded = encode_rows(train, encoder, config.model.max_length)
        scores = unigram_scores(encoded.examples, questions.examples, encoder.vocabulary_size)
        baselines[UNIGRAM] = samples_of(UNIGRAM, questions, scores, None)
    if work.wants_answers and train:
        for name, answers in baseline_answers(train, questions.rows, config.seed).items():
            baselines[name] = _copies(name, questions, answers)
    return baselines


def _copies(name: str, questions: Questions, texts: Sequence[str]) -> list[Sample]:
    """Return the samples of a baseline that gives each row one of the texts."""
    plain = samples_of("", questions, None, None)
    return [baseline_sample(sample, name, text) for sample, text in zip(plain, texts, strict=True)]
