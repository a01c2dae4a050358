"""Topics: where they come from, and which names are names of one thing."""

from __future__ import annotations

import itertools
from collections import Counter
from importlib.resources import files

import pytest

from medqa_cli.data.questions.topics import first_names, topic_names, topic_of
from medqa_cli.data.reading.columns import ColumnNames, find_columns


@pytest.mark.parametrize(
    "names",
    [
        ("Alzheimer disease", "Alzheimer's Disease", "Alzheimer’s disease", "Alzheimers disease"),
        ("Sjgren syndrome", "Sjogren's Syndrome", "Sjögren syndrome", "Sjgren's Syndrome"),
        ("cataract", "Cataracts", "CATARACT"),
        ("abscess", "Abscesses"),
        ("muscular dystrophy", "Muscular dystrophies"),
        ("heart  attack", "Heart attacks", "heart-attack"),
    ],
)
def test_spellings_of_one_topic(names: tuple[str, ...]) -> None:
    assert {topic_names(name) for name in names} == {topic_names(names[0])}
    assert len(topic_names(names[0])) == 1


def test_an_abbreviation_is_a_name_of_its_own() -> None:
    long = topic_names("chronic obstructive pulmonary disease (COPD)")
    assert set(topic_names("COPD")) < set(long)
    assert set(topic_names("Chronic Obstructive Pulmonary Disease")) < set(long)
    assert len(long) == 2
    assert topic_names("glaucoma (eye disease)") == ("glaucoma eye disease",)


@pytest.mark.parametrize(
    "pair",
    list(itertools.combinations(["diabetes type 1", "diabetes type 2", "hepatitis", "hepatitis B", "lupus"], 2)),
)
def test_different_topics_stay_different(pair: tuple[str, str]) -> None:
    assert not set(topic_names(pair[0])) & set(topic_names(pair[1]))


@pytest.mark.parametrize("missing", ["", " ", "NaN", "None", "n/a", "unknown", "-", "#N/A"])
def test_a_missing_topic_is_none(missing: str) -> None:
    assert topic_of("How late is it?", missing) == ""
    assert topic_of("What causes gout?", missing) == "gout"


def test_the_column_wins() -> None:
    assert topic_of("What causes gout?", " Gouty  arthritis ") == "Gouty arthritis"
    assert topic_names("") == ()


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("What is the role of steroids in bacterial meningitis?", "meningitis"),
        ("What is a good diet for gout?", "gout"),
        ("What are the odds of surviving pancreatic cancer?", "pancreatic cancer"),
        ("How common are side effects from statins?", "statins"),
        ("What is the fastest cure for a cold?", "cold"),
        ("How do I get ready for surgery?", ""),
        ("How do you get infected with HIV?", "HIV"),
        ("What does mild mean?", ""),
        ("What does partially controlled mean?", ""),
        ("What does stable mean?", ""),
        ("What is the significance of elevated troponin in chest pain?", "chest pain"),
        ("What is the correct dosage of insulin for children with type 1 diabetes?", "insulin"),
        ("What is the aim of treatment in COPD?", "COPD"),
        ("What is the role of exercise in the management of low back pain?", "low back pain"),
        ("What is the role of diet in preventing heart disease?", "heart disease"),
        ("What is the place of statins in the prevention of stroke?", "stroke"),
        ("What is the recommended treatment of scabies in pregnant women?", "scabies"),
        ("What is the recommended age for measles vaccination?", "measles"),
        ("What is the likelihood of recurrence after a heart attack?", "heart attack"),
        ("How many people worldwide have malaria?", "malaria"),
        ("How many children get measles each year?", "measles"),
        ("How is gestational diabetes managed after delivery?", "gestational diabetes"),
        ("How is dengue fever transmitted to humans?", "dengue fever"),
        ("How is HIV transmitted from mother to child?", "HIV"),
        ("How does malaria spread between people?", "malaria"),
        ("What are governments doing to prevent tuberculosis?", "tuberculosis"),
        ("Can diabetes be cured?", "diabetes"),
        ("Are antibiotics effective against flu?", "flu"),
        ("What are the signs of dehydration in a baby?", "dehydration"),
        ("what is type 2 diabetes in simple words?", "type 2 diabetes"),
        ("What is the definition of hypertension according to the WHO?", "hypertension"),
        ("What is the cut-off for fever?", "fever"),
        ("What to do after a concussion?", ""),
        ("What to do for a nosebleed in a toddler?", "nosebleed"),
        ("What are the effects of long-term use of steroids?", "steroids"),
        ("What is the recommended vaccine against meningitis for travellers?", "meningitis"),
        ("What is the purpose of a lumbar puncture in suspected meningitis?", "meningitis"),
        ("What does well controlled mean?", ""),
        ("How do I get tested?", ""),
        ("How many people get well after COVID-19?", ""),
        ("How do I get rid of acne?", "acne"),
        ("How is asthma in children treated?", "asthma"),
        ("What is the best treatment for high blood pressure in pregnancy?", "high blood pressure"),
        ("How is asthma treated in children under five?", "asthma"),
        ("What is the risk of stroke in people with atrial fibrillation?", "stroke"),
        ("What is the mechanism of action of metformin?", "metformin"),
        ("What is the recommended dose of ibuprofen?", "ibuprofen"),
        ("What is the function of the liver?", "liver"),
        ("What is the incubation period of measles?", "measles"),
        ("What is the link between smoking and lung cancer?", "lung cancer"),
        ("What are the side effects of aspirin?", "aspirin"),
        (
            "What is the first-line treatment for uncomplicated urinary tract infection?",
            "uncomplicated urinary tract infection",
        ),
        ("What is the gold standard for diagnosis of tuberculosis?", "tuberculosis"),
        ("What are the warning signs of a heart attack?", "heart attack"),
        ("How do I get pregnant?", ""),
        ("What does benign mean?", ""),
        ("What does positive mean?", ""),
        ("How do I get vaccinated?", ""),
        ("How common is depression among teenagers?", "depression"),
        ("What is the effect of alcohol on the liver?", "alcohol"),
        ("What are the benefits of breastfeeding?", "breastfeeding"),
        ("What is the importance of hand washing?", "hand washing"),
        ("What is the life expectancy of people with cystic fibrosis?", "cystic fibrosis"),
        ("What is the survival rate for pancreatic cancer?", "pancreatic cancer"),
        ("What is the role of vitamin D in bone health?", "vitamin D"),
        ("What are the symptoms of dehydration in babies?", "dehydration"),
        ("What is loss of taste?", "loss of taste"),
        ("What is cancer of the liver?", "cancer of the liver"),
        ("What is shortness of breath?", "shortness of breath"),
        ("What is burden of disease?", ""),
        ("What is the global burden of malaria?", "malaria"),
        ("How do I get better?", ""),
        ("What is the treatment of choice for H. pylori infection?", "H. pylori infection"),
        ("What is the management of severe acute malnutrition?", "severe acute malnutrition"),
        ("What are the indications for dialysis in acute kidney injury?", "acute kidney injury"),
        ("How can I prevent getting the flu?", "flu"),
        ("How do you get HIV?", "HIV"),
        ("What are the key facts about air pollution?", "air pollution"),
        ("What is the impact of climate change on health?", "climate change"),
        ("What are the main causes of road traffic injuries?", "road traffic injuries"),
        ("Who is at risk of getting dengue?", "dengue"),
        ("What is the role of surgery for lower back pain?", "lower back pain"),
        ("What is the use of antibiotics in acute bronchitis?", "acute bronchitis"),
        ("How is pneumonia in elderly patients treated?", "pneumonia"),
        ("What is well-being?", "well-being"),
        ("How do I get enough vitamin D?", "vitamin D"),
        ("How long does it take to recover from flu?", "flu"),
        ("How long does recovery from a stroke last?", "stroke"),
        ("What are treatment options for women with endometriosis?", "endometriosis"),
        ("What is the evidence for statins in primary prevention?", "statins"),
        ("What Is The Role Of Aspirin In Heart Attack?", "heart attack"),
        ("Asthma in children treatment", "asthma"),
        ("How does exercise affect people with arthritis?", "arthritis"),
        ("How can hypertension during pregnancy be treated?", "hypertension"),
        ("What causes nosebleeds at night?", "nosebleeds"),
        ("How is sepsis in newborns diagnosed?", "sepsis"),
        ("What is the recommended screening for colorectal cancer in adults over 50?", "colorectal cancer"),
        ("What is the follow-up?", ""),
        ("How do I get started?", ""),
        ("What is the outlook for children with leukemia?", "leukemia"),
        ("What is the role of antibiotics in sore throat?", "antibiotics"),
        ("What are the goals of therapy in rheumatoid arthritis?", "rheumatoid arthritis"),
        ("Is there a link between obesity and breast cancer?", ""),
        ("What is the recommended duration of treatment for latent tuberculosis?", "latent tuberculosis"),
        ("What is the recommended first-line treatment for hypertension in black patients?", "hypertension"),
        ("What is the dose of amoxicillin for otitis media?", "amoxicillin"),
        ("What is the best way to prevent malaria?", "malaria"),
        ("How do I get over a cold?", "cold"),
        ("How do you get well?", ""),
        ("How do I get more sleep?", "sleep"),
        ("How do I get help?", ""),
        ("How do I get my results?", ""),
        ("How do I get a second opinion?", ""),
        ("How many people have diabetes in the world?", "diabetes"),
        ("How many people get infected with hepatitis B?", "hepatitis B"),
        ("How many people get sick from norovirus each year?", "norovirus"),
        ("How many people get vaccinated?", ""),
        ("How should dehydration be managed in a child with gastroenteritis?", "dehydration"),
        ("What is the evidence that statins reduce mortality?", ""),
        ("What are the long-term effects of COVID-19?", "COVID-19"),
        ("What are the common side effects of metformin in elderly people?", "metformin"),
        ("What is the relationship between sleep and depression?", "depression"),
        ("What is the prognosis of heart failure?", "heart failure"),
        ("What is asthma control?", "asthma"),
        ("What is an asthma attack?", "asthma attack"),
        ("What is the treatment of acute asthma in adults?", "acute asthma"),
        ("What tests are used to diagnose pneumonia in children?", "pneumonia"),
        ("What is the prevalence of obesity among adolescents?", "obesity"),
        ("What are the contraindications to thrombolysis in acute stroke?", "acute stroke"),
        ("What is the pathophysiology of sepsis?", "sepsis"),
        ("Should aspirin be given to patients with stroke?", "stroke"),
        ("When should antibiotics be started in bacterial meningitis?", "meningitis"),
        ("Which vaccine is recommended against rabies?", "rabies"),
        ("Who should be screened for lung cancer?", "lung cancer"),
        ("What are risk factors for stroke in young adults?", "stroke"),
        ("What is the survival of patients with glioblastoma?", "glioblastoma"),
        ("What is the diagnostic accuracy of ultrasound for appendicitis?", "appendicitis"),
        ("What is the sensitivity of the rapid test for influenza?", "influenza"),
        ("What is the next step?", ""),
        ("What is the treatment?", ""),
        ("What is vaccine hesitancy?", "vaccine hesitancy"),
        ("How long does chemotherapy last?", "chemotherapy"),
        ("What is advised before surgery?", ""),
        ("How do I get rid of head lice at home?", "head lice"),
    ],
)
def test_the_topic_of_a_phrase_is_the_thing_that_it_is_about(question: str, topic: str) -> None:
    assert topic_of(question, "") == topic


@pytest.mark.parametrize(
    "name",
    [
        "loss of taste",
        "alternating hemiplegia of childhood",
        "Kidney Stones in Children",
        "severe combined immunodeficiency",
        "hereditary neuropathy with liability to pressure palsies",
        "What I need to know about Gas",
        "Causes of Diabetes",
        "very long-chain acyl-CoA dehydrogenase deficiency",
        "Copper deficiency, familial benign",
        "back pain",
    ],
)
def test_names_that_look_like_phrases_stay_whole(name: str) -> None:
    assert topic_of(f"What are the symptoms of {name}?", "") == name
    assert topic_of("", name) == name


@pytest.mark.parametrize(
    "names",
    [
        ("heart attack", "Myocardial Infarction", "acute myocardial infarction"),
        ("high blood pressure", "Hypertension"),
        ("stroke", "Cerebrovascular accident"),
        ("Flu", "influenza"),
        ("Tylenol", "acetaminophen", "paracetamol"),
        ("kidney stones", "Nephrolithiasis", "renal calculi"),
        ("viral gastroenteritis", "stomach flu"),
        ("bacterial meningitis", "suspected meningitis", "meningitis"),
    ],
)
def test_two_names_of_one_thing(names: tuple[str, ...]) -> None:
    assert {topic_names(name) for name in names} == {topic_names(names[0])}
    assert len(topic_names(names[0])) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gestational diabetes", "diabetes"),
        ("type 1 diabetes", "type 2 diabetes"),
        ("anorexia nervosa", "loss of appetite"),
        ("pulmonary hypertension", "high blood pressure"),
        ("viral infection", "bacterial infection"),
        ("severe combined immunodeficiency", "combined immunodeficiency"),
        ("colon cancer", "colorectal cancer"),
    ],
)
def test_kinds_of_a_thing_are_not_the_thing(one: str, other: str) -> None:
    assert not set(topic_names(one)) & set(topic_names(other))


def test_no_name_stands_in_two_lines_of_the_synonyms() -> None:
    lines = files("medqa_cli.data.questions").joinpath("synonyms.txt").read_text(encoding="utf-8").splitlines()
    things = [line.split(" = ") for line in lines if line and not line.startswith("#")]
    names = Counter(name for thing in things for name in {topic_names(name)[0] for name in thing})
    assert [name for name, lines_with_it in names.items() if lines_with_it > 1] == []
    assert min(len(thing) for thing in things) >= 2
    assert len(first_names()) > 800


@pytest.mark.parametrize(
    ("header", "topic"),
    [
        (["Question", "Focus (Drug)", "Question Type", "Answer"], "Focus (Drug)"),
        (["question", "answer", "FOCUS (Disease)"], "FOCUS (Disease)"),
        (["question", "answer", "drug", "topic"], "topic"),
        (["question", "answer", "disease_name"], "disease_name"),
        (["question", "answer", "Medical Condition"], "Medical Condition"),
        (["question", "answer", "fact_sheet"], "fact_sheet"),
        (["question", "answer", "Focus", "Focus (Drug)"], "Focus"),
        (["question", "answer", "category", "subject_name", "drugs_taken", "diseases"], None),
    ],
)
def test_the_topic_column_and_its_kin(header: list[str], topic: str | None) -> None:
    found = find_columns(ColumnNames(), header, "a.csv").topic
    assert (None if found is None else header[found]) == topic
