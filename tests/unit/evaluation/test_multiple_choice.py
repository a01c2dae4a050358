"""Multiple choice: the three formats with the harness's prompts, its rule on a tiny model, accuracy and macro-F1."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.models import make_bos_tokenizer
from helpers.paths import SHARED_DATA
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.evaluation import multiple_choice
from medqa_cli.evaluation.metrics import accuracy_of_sums, confusion_parts, macro_f1_of_sums
from medqa_cli.evaluation.multiple_choice import ChoiceItem, predictions, read_choice_file, score_choices
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel

PUBMEDQA = SHARED_DATA / "pubmedqa/ori_pqal.json"


def write(path: Path, value: Any) -> Path:
    lines = value if isinstance(value, list) else [value]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


ABSTRACT = {"QUESTION": "Does it help?", "CONTEXTS": ["One.", "Two."], "LABELS": ["A", "B"], "LONG_ANSWER": "It does."}


def test_pubmedqa_is_read_whole_or_by_its_test_ground_truth(tmp_path: Path) -> None:
    items = {"11": {**ABSTRACT, "final_decision": "maybe"}, "12": {**ABSTRACT, "final_decision": "no"}}
    path = write(tmp_path / "ori_pqal.json", items)
    assert [(item.id, item.gold) for item in read_choice_file(path)] == [("11", 2), ("12", 1)]
    write(tmp_path / "test_ground_truth.json", {"12": "no"})
    prompt = "Abstract: One.\nTwo.\nQuestion: Does it help?\nAnswer:"
    assert read_choice_file(path) == [ChoiceItem("12", "Does it help?", prompt, ("yes", "no", "maybe"), 1)]
    write(tmp_path / "test_ground_truth.json", {"13": "no"})
    with pytest.raises(InputError, match="names 1 items"):
        read_choice_file(path)


def test_medmcqa_in_both_countings(tmp_path: Path) -> None:
    def records(first: int) -> list[dict[str, Any]]:
        options = {"opa": "Iron", "opb": "Salt", "opc": "Zinc", "opd": "Rest"}
        return [{"id": str(gold), "question": "Which?", **options, "cop": first + gold} for gold in range(4)]

    prompt = "Question: Which?\nChoices:\nA. Iron\nB. Salt\nC. Zinc\nD. Rest\nAnswer:"
    for first in (0, 1):
        items = read_choice_file(write(tmp_path / "dev.json", records(first)))
        assert [item.gold for item in items] == [0, 1, 2, 3]
        assert items[0] == ChoiceItem("0", "Which?", prompt, ("A", "B", "C", "D"), 0)
    with pytest.raises(InputError, match="cop counts"):
        read_choice_file(write(tmp_path / "dev.json", records(1)[:2]))


def test_medqa_in_its_own_and_the_hubs_form(tmp_path: Path) -> None:
    prompt = "Question: Which?\nA. Iron\nB. Salt\nC. Zinc\nD. Rest\nAnswer:"
    options = dict(zip("ABCD", ("Iron", "Salt", "Zinc", "Rest"), strict=True))
    own = {"question": "Which?", "answer": "Salt", "options": options, "answer_idx": "B"}
    hub = {"id": "x", "sent1": "Which?", "label": 1} | {f"ending{k}": text for k, text in enumerate(options.values())}
    for record, name in ((own, "1"), (hub, "x")):
        items = read_choice_file(write(tmp_path / "test.jsonl", [record]))
        assert items == [ChoiceItem(name, "Which?", prompt, ("A", "B", "C", "D"), 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "in no known format"),
        ('{"question": "Which?"}', "in no known format"),
        ('{"question": "Which?", "options": {"A": "1", "B": "2"}, "answer_idx": "A"}', "item 1 is damaged: no 'C'"),
        ('{"1": {"QUESTION": "q", "CONTEXTS": [], "final_decision": "unsure"}}', "item 1 is damaged"),
        ('{"1": {"QUESTION": "q", "CONTEXTS": "One.", "final_decision": "no"}}', "CONTEXTS is not a list of texts"),
        (
            '{"1": {"QUESTION": 7, "CONTEXTS": [], "final_decision": "no"}}',
            "item 1 is damaged: the question is not text",
        ),
        ('{"question": "q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": [1]}', "cop counts neither"),
        (
            '{"question": "Which?", "options": {"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}, "answer_idx": "A"}',
            "item 1 is damaged: 5 options; the four-option file has 4",
        ),
        (
            '{"sent1": "Which?", "ending0": "1", "ending1": "2", "ending2": "3", "ending3": "4", "label": 4}',
            "item 1 is damaged: the right answer is none of the four",
        ),
        ('{"question": "Which?"\n', ":1 is no JSON"),
        ("[1, 2]", "in no known format"),
    ],
)
def test_files_that_cannot_be_scored(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_choice_file(path)
    assert said in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        read_choice_file(tmp_path / "none.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"eval\.multiple_choice: .* cannot be read: .*Is a directory"):
        read_choice_file(tmp_path)
    (tmp_path / "latin1.json").write_bytes('{"question": "Ménière?"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin1\.json cannot be read: 'utf-8' codec can't decode byte 0xe9"):
        read_choice_file(tmp_path / "latin1.json")


@pytest.mark.parametrize("content", ["7", "[[1]]", '["11"]', "{}"])
def test_a_list_of_pubmedqas_test_items_that_is_none(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "ori_pqal.json", {"11": {**ABSTRACT, "final_decision": "maybe"}})
    (tmp_path / "test_ground_truth.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"test_ground_truth\.json is not an object with an id as each key"):
        read_choice_file(path)


def test_pubmedqas_file_has_its_500_test_items() -> None:
    if not PUBMEDQA.is_file():
        pytest.skip("no PubMedQA in ../shared")
    items = read_choice_file(PUBMEDQA)
    assert [[item.gold for item in items].count(choice) for choice in range(3)] == [276, 169, 55]


def test_accuracy_and_macro_f1_by_hand() -> None:
    gold, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    sums = confusion_parts(gold, predicted, 4).sum(axis=0, keepdims=True)
    assert accuracy_of_sums(sums)[0] == pytest.approx(3 / 6)
    # F1 of 0: 2*2/(3+4); of 1: 2*1/(2+2); of 2: 0; choice 3 is neither right nor predicted and does not count.
    assert macro_f1_of_sums(sums)[0] == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)
    perfect = confusion_parts(gold, gold, 4).sum(axis=0, keepdims=True)
    assert macro_f1_of_sums(perfect)[0] == accuracy_of_sums(perfect)[0] == 1
    both = np.concatenate([sums, perfect])
    assert macro_f1_of_sums(both).tolist() == [macro_f1_of_sums(sums)[0], 1.0]


def test_ties_go_to_the_first_choice() -> None:
    assert predictions([[-1.0, -1.0, -2.0], [-3.0, -1.0, -1.0]]) == [0, 1]


@pytest.mark.parametrize(
    "choices", [("a", "b", "c"), ("the", "is", "glaucoma"), ("glaucoma is a disease", "b", "asthma")]
)
def test_log_likelihoods_are_those_of_the_harness(
    choices: tuple[str, ...], tiny_model_dir: Path, chatml_tokenizer: Any, tmp_path: Path
) -> None:
    """Against whole logits of one text at a time; single tokens (one forward pass for all) and longer continuations."""
    from transformers import AutoModelForCausalLM

    from medqa_cli.config.schema import ModelConfig, PromptConfig
    from medqa_cli.model.load import load_base
    from medqa_cli.model.resolve import find_base
    from medqa_cli.prompt.contract import make_contract
    from medqa_cli.prompt.encoder import PromptEncoder

    prompts = ["Question: What is glaucoma?\nAnswer:", "Abstract: " + "asthma is treated. " * 200 + "\nAnswer:"]
    items = [ChoiceItem(str(number), "", prompt, choices, 0) for number, prompt in enumerate(prompts * 10)]
    device = torch.device("cpu")
    packed = load_base(
        find_base(str(tiny_model_dir)), ModelConfig(quantization="none"), device, torch.float32, packed=True
    )
    source = find_base(str(tiny_model_dir))
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    loaded = LoadedModel("base", source, packed, encoder, device, torch.float32)
    with SharedJournal(tmp_path, 1) as journal:
        found = score_choices(loaded, chatml_tokenizer, "set", items, journal)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    most = plain.config.max_position_embeddings
    for item, own in list(zip(items, found, strict=True))[:2]:
        expected = [
            harness_log_likelihood(plain, chatml_tokenizer, item.prompt, f" {choice}", most) for choice in choices
        ]
        assert own == pytest.approx(expected, abs=1e-4)
        assert len({round(value, 3) for value in own}) > 1
    assert found[:2] * 10 == [pytest.approx(own, abs=1e-5) for own in found]


def harness_log_likelihood(model: Any, tokenizer: Any, prompt: str, continuation: str, most: int) -> float:
    """lm-evaluation-harness 0.4.13: lm_eval/api/model.py _encode_pair, models/huggingface.py _loglikelihood_tokens."""
    whole, context = tokenizer(prompt + continuation)["input_ids"], tokenizer(prompt)["input_ids"]
    own = whole[len(context) :]
    read = torch.tensor([(context + own)[-(most + 1) :][:-1]])
    with torch.no_grad():
        logits = model(input_ids=read).logits.log_softmax(-1)[0]
    return float(logits[-len(own) :].gather(-1, torch.tensor(own)[:, None]).sum())


def test_choice_without_a_token_of_its_own_is_an_error_and_not_the_likeliest() -> None:
    """A sum over no token is 0, more than any log-likelihood."""

    def joining(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [1] * len(text.replace(": A", ":").split())}

    joining.bos_token_id = joining.eos_token_id = None  # type: ignore[attr-defined]
    assert multiple_choice._encode_pair("Which? Answer:", " B", joining, 512) == ([1, 1], [1])
    with pytest.raises(MedqaError, match="has no token to score"):
        multiple_choice._encode_pair("Which? Answer:", " A", joining, 512)


def test_a_tokenizer_that_ends_every_text_changes_no_choice() -> None:
    """With ``add_eos_token`` the end of the prompt would stand where a choice begins."""
    from tokenizers import processors

    ending, plain = make_bos_tokenizer(), make_bos_tokenizer()
    ends = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    ending.backend_tokenizer.post_processor = ends
    for prompt in ("Question: why?\nAnswer:", ""):
        pair = multiple_choice._encode_pair(prompt, " yes", ending, 512)
        assert pair == multiple_choice._encode_pair(prompt, " yes", plain, 512)
