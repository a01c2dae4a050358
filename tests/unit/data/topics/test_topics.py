"""Topics: where they come from, and which names are names of one thing."""

import itertools
from collections import Counter
from importlib.resources import files

import pytest

from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.shapes import ColumnNames
from medqa_cli.data.topics.topics import TopicCounts, first_synonyms, topic_names, topic_of


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


@pytest.mark.parametrize("missing", [r"\n", r"\r\n \t", "", " ", "NaN", "None", "n/a", "unknown", "-", "#N/A"])
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
        ("What is the correct dosage of insulin for children with type 1 diabetes?", "type 1 diabetes"),
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
        ("What to do after a concussion?", "concussion"),
        ("What to do for a nosebleed in a toddler?", "nosebleed"),
        ("What are the effects of long-term use of steroids?", "steroids"),
        ("What is the recommended vaccine against meningitis for travellers?", "meningitis"),
        ("What is the purpose of a lumbar puncture in suspected meningitis?", "meningitis"),
        ("What does well controlled mean?", ""),
        ("How do I get tested?", ""),
        ("How many people get well after COVID-19?", "COVID-19"),
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
        ("What is the role of antibiotics in sore throat?", "sore throat"),
        ("What are the goals of therapy in rheumatoid arthritis?", "rheumatoid arthritis"),
        ("Is there a link between obesity and breast cancer?", ""),
        ("What is the recommended duration of treatment for latent tuberculosis?", "latent tuberculosis"),
        ("What is the recommended first-line treatment for hypertension in black patients?", "hypertension"),
        ("What is the dose of amoxicillin for otitis media?", "otitis media"),
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
    ("question", "topic"),
    [
        ("What is the role of zinc in childhood diarrhea?", "childhood diarrhea"),
        ("What is the place of surgery in sciatica?", "sciatica"),
        ("the role of beta blockers in heart failure", "heart failure"),
        ("tiredness after chemotherapy", "tiredness"),
        ("What causes tiredness after chemotherapy?", "tiredness"),
        ("What is the role of probiotics in irritable bowel syndrome?", "irritable bowel syndrome"),
        ("What is the use of metformin in polycystic ovary syndrome?", "polycystic ovary syndrome"),
        ("What is the benefit of physiotherapy in knee osteoarthritis?", "knee osteoarthritis"),
        ("What are the benefits of exercise for people with depression?", "depression"),
        ("What is the effect of aspirin on stroke risk?", "stroke"),
        ("What is the effect of smoking on the lungs?", "smoking"),
        ("What are the effects of lithium on the kidneys?", "lithium"),
        ("What are the risks of hormone therapy in menopause?", "menopause"),
        ("What are the risks of warfarin during pregnancy?", "warfarin"),
        ("What is the risk of bleeding with warfarin?", "bleeding"),
        ("Role of tranexamic acid in postpartum hemorrhage", "postpartum hemorrhage"),
        ("place of botulinum toxin in spasticity", "spasticity"),
        ("use of antibiotics in sore throat", "sore throat"),
        ("Aspirin versus clopidogrel in stroke", "stroke"),
        ("aspirin vs warfarin for atrial fibrillation", "atrial fibrillation"),
        ("What is better, aspirin or clopidogrel, in stroke?", "stroke"),
        ("surgery versus physiotherapy for carpal tunnel", "carpal tunnel"),
        ("Surgery versus exercise in sciatica", "sciatica"),
        ("What is the role of surgery versus radiotherapy in prostate cancer?", "prostate cancer"),
        ("What causes hair loss after chemotherapy?", "hair loss"),
        ("How is nausea during pregnancy treated?", "nausea"),
        ("pain after knee replacement", "pain"),
        ("How long does fatigue after covid last?", "fatigue"),
        ("What helps constipation with opioids?", "constipation"),
        ("How is anemia with chronic kidney disease treated?", "anemia with chronic kidney disease"),
        ("What is the treatment of itching with liver disease?", "itching"),
        ("Is zinc useful in childhood diarrhea?", "childhood diarrhea"),
        ("Does zinc help in diarrhea?", "diarrhea"),
        ("Does magnesium help for leg cramps?", "leg cramps"),
        ("Is acupuncture effective for migraine?", "migraine"),
        ("Are steroids safe in pregnancy?", ""),
        ("Can I take ibuprofen for toothache?", "toothache"),
        ("What is the role of MRI in multiple sclerosis?", "multiple sclerosis"),
        ("What is the use of troponin in myocardial infarction?", "myocardial infarction"),
        ("What is the value of colonoscopy in ulcerative colitis?", "ulcerative colitis"),
        ("What is the role of genetics in schizophrenia?", "schizophrenia"),
        ("What is the role of stress in psoriasis?", "psoriasis"),
        ("What is the role of the liver in digestion?", "liver"),
        ("What is the role of insulin in the body?", "insulin"),
        ("What is the role of vitamin K in blood clotting?", "vitamin K"),
        ("What is the role of calcium in bone health?", "calcium"),
        ("What is the function of the pancreas in digestion?", "pancreas"),
        ("What is the role of the thyroid in metabolism?", "thyroid"),
        ("What is the importance of folic acid in pregnancy?", "folic acid"),
        ("What is the dose of amoxicillin in ear infection?", "ear infection"),
        ("What is the efficacy of ivermectin against scabies?", "scabies"),
        ("What is the effectiveness of vaccines against measles?", "measles"),
        ("What is the benefit of statins after a heart attack?", "heart attack"),
        ("What is the role of rehabilitation after stroke?", "stroke"),
        ("What is the role of diet in gout?", "gout"),
        ("What is the role of compression stockings in varicose veins?", "varicose veins"),
        ("What is the impact of obesity on asthma?", "obesity"),
        ("What is the effect of coffee on blood pressure?", "blood pressure"),
        ("What is the effect of salt on hypertension?", "hypertension"),
        ("Benefits of omega-3 for dry eye", "dry eye"),
        ("Benefits of yoga", "yoga"),
        ("Risks of anesthesia in sleep apnea", "sleep apnea"),
        ("Risk of cancer with HRT", "cancer"),
        ("side effects of chemotherapy for breast cancer", "breast cancer"),
        ("What are the side effects of radiotherapy in prostate cancer?", "prostate cancer"),
        ("Management of hypertension in diabetes", "hypertension"),
        ("What is the management of diabetes in pregnancy?", "diabetes"),
        ("What is the treatment of malaria in pregnancy?", "malaria"),
        ("What is the treatment of depression in Parkinson's disease?", "depression"),
        ("Why is zinc given in childhood diarrhea?", "childhood diarrhea"),
        ("Why are steroids used in croup?", "croup"),
        ("When is surgery needed in sciatica?", "sciatica"),
        ("When is dialysis indicated in kidney failure?", "kidney failure"),
        ("How does metformin work in diabetes?", "diabetes"),
        ("How do beta blockers help in heart failure?", "heart failure"),
        ("How effective is exercise in low back pain?", "low back pain"),
        ("What is the role of a carer in dementia?", "dementia"),
        ("What is the best drug for epilepsy?", "epilepsy"),
        ("What is the best exercise for frozen shoulder?", "frozen shoulder"),
        ("Which antibiotic is best for acne?", "acne"),
        ("What is the role of oral rehydration solution for cholera?", "cholera"),
        ("The use of oxygen in COPD", "COPD"),
        ("The benefits of breastfeeding for asthma", "asthma"),
        ("fever after vaccination", "fever"),
        ("swelling after a bee sting", "swelling"),
        ("bleeding after tooth extraction", "bleeding"),
        ("What are the causes of headache after lumbar puncture?", "headache"),
        ("What are the causes of dizziness during pregnancy?", "dizziness"),
        ("vomiting during chemotherapy", "vomiting"),
        ("weight gain with antidepressants", "weight gain"),
        ("insomnia with steroids", "insomnia"),
        ("hair loss during menopause", "hair loss"),
        ("What is the role of corticosteroids in Bell's palsy?", "Bell's palsy"),
        ("What is the role of IVIG in Guillain-Barre syndrome?", "Guillain-Barre syndrome"),
        ("What is the place of levetiracetam in infantile spasms?", "infantile spasms"),
        ("What is the role of physiotherapy in rotator cuff tear?", "rotator cuff tear"),
        ("What is the role of iron supplementation in restless legs?", "restless legs"),
        ("What is the place of tonsillectomy in recurrent tonsillitis?", "tonsillitis"),
        ("Role of laparoscopy in endometriosis", "endometriosis"),
        ("Role of vitamin A in measles", "measles"),
        ("What is the use of pulse oximetry in bronchiolitis?", "bronchiolitis"),
        ("What is the benefit of screening for abdominal aortic aneurysm?", "abdominal aortic aneurysm"),
        ("What are the benefits of breastfeeding for the mother?", "breastfeeding"),
        ("What are the risks of smoking in pregnancy?", "smoking"),
        ("What are the risks of smoking?", "smoking"),
        ("What is the risk of lung cancer in smokers?", "lung cancer"),
        ("What is the risk of diabetes after gestational diabetes?", "diabetes"),
        ("What is the effect of stress on the heart?", "stress"),
        ("What is the effect of alcohol on sleep?", "alcohol"),
        ("What is the effect of metformin on weight?", "metformin"),
        ("What are the effects of caffeine on the body?", "caffeine"),
        ("What are the effects of chemotherapy on fertility?", "chemotherapy"),
        ("What is the impact of diabetes on the eyes?", "diabetes"),
        ("surgery or conservative treatment for a torn meniscus", "torn meniscus"),
        ("Statins versus placebo in primary prevention", ""),
        ("CT versus MRI in acute stroke", "acute stroke"),
        ("aspirin versus ibuprofen", ""),
        ("cold versus flu", ""),
        ("Heparin vs. warfarin for deep vein thrombosis", "deep vein thrombosis"),
        ("depression after stroke", "depression"),
        ("exercise after a heart attack", "heart attack"),
        ("driving after a seizure", "seizure"),
        ("sex after prostate surgery", ""),
        ("What is normal bleeding after childbirth?", "normal bleeding"),
        ("How long does swelling last after knee surgery?", "swelling"),
        ("How long does swelling after knee surgery last?", "swelling"),
        ("Can you drink alcohol with metronidazole?", ""),
        ("Can I exercise with asthma?", "asthma"),
        ("Is it safe to fly after a heart attack?", "heart attack"),
        ("Is honey good for a cough?", "cough"),
        ("Does vitamin C prevent colds?", ""),
        ("Why do doctors prescribe statins after a stroke?", "stroke"),
        ("Why is aspirin avoided in dengue?", "dengue"),
        ("Why is oxygen given in pneumonia?", "pneumonia"),
        ("When is a lumbar puncture needed in headache?", "headache"),
        ("When should surgery be considered in carpal tunnel syndrome?", "carpal tunnel syndrome"),
        ("What is the prognosis of epilepsy after brain surgery?", "epilepsy"),
        ("What is the management of hypertension in chronic kidney disease?", "hypertension"),
        ("What is the treatment of urinary tract infection in pregnancy?", "urinary tract infection"),
        ("What are the complications of measles in adults?", "measles"),
        ("How is Crohn disease in children treated?", "Crohn disease"),
        ("What is the role of surgery in Crohn's disease?", "Crohn's disease"),
        ("What is the role of colchicine in Familial Mediterranean Fever?", "Familial Mediterranean Fever"),
        ("What is the recommended drug for pinworms?", "pinworms"),
        ("What is the role of serotonin in depression?", "depression"),
        ("What is the role of insulin in glucose uptake?", "insulin"),
        ("What is the role of hemoglobin in oxygen transport?", "hemoglobin"),
        ("What is the role of bile in digestion?", "bile"),
        ("What is the role of white blood cells in fighting infection?", "infection"),
        ("What is the role of the kidneys in blood pressure control?", "blood pressure"),
        ("What is the role of the WHO in pandemics?", "WHO"),
        ("What is the use of an inhaler in asthma?", "asthma"),
        ("What are the advantages of laparoscopic surgery over open surgery?", "laparoscopic surgery"),
        ("Importance of hand washing", "hand washing"),
        ("Effect of climate on health", "climate"),
        ("My son has fever after vaccination, what should I do?", ""),
        ("I have pain after knee surgery.", ""),
        ("She was treated for pneumonia.", ""),
        ("tinnitus", "tinnitus"),
        ("asthma and allergy", ""),
        ("Was hilft gegen Husten in der Nacht?", ""),
        ("rol de la cirugia en ciatica", ""),
        ("What is cancer of the pancreas?", "cancer of the pancreas"),
        ("What are symptoms of dementia with Lewy bodies?", "dementia with Lewy bodies"),
        ("What is pain in the chest?", "pain in the chest"),
        ("What is ataxia with vitamin E deficiency?", "ataxia with vitamin E deficiency"),
        ("What is muscular dystrophy with rigid spine?", "muscular dystrophy with rigid spine"),
        ("What is respiratory distress syndrome in newborns?", "respiratory distress syndrome"),
        ("What is the use of ketamine in treatment-resistant depression?", "treatment-resistant depression"),
        ("What is homeostasis in the body?", "homeostasis in the body"),
        ("What is the role of empathy in nursing?", "empathy"),
        ("What is the role of sleep in memory?", "sleep"),
        ("What are side effects of lithium in bipolar disorder?", "bipolar disorder"),
        ("what is the value of d-dimer in pulmonary embolism", "pulmonary embolism"),
        ("Is there a role for antivirals in shingles?", "shingles"),
        ("Is there any benefit of acupuncture in fibromyalgia?", "fibromyalgia"),
        ("what is the place for surgery in obesity?", "obesity"),
        ("How good is physiotherapy for plantar fasciitis?", "plantar fasciitis"),
        ("What role do antibiotics play in acute bronchitis?", "acute bronchitis"),
        ("What role does diet play in gout?", "gout"),
        ("What is the recommended intake of folic acid in pregnancy?", "folic acid"),
        ("What is the evidence for acupuncture in migraine?", "migraine"),
        ("What is the best painkiller for kidney stones?", "kidney stones"),
    ],
)
def test_the_topic_is_the_first_illness_else_what_a_treatment_is_for_else_what_a_relation_is_to(
    question: str, topic: str
) -> None:
    assert topic_of(question, "") == topic


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Does exercise during pregnancy prevent postnatal depression?", "postnatal depression"),
        ("Is there any medication you can prescribe to help reduce my sweating?", "sweating"),
        ("Is it common to have an abscess with no pain?", "abscess"),
        ("Which doctor should I go to for vertigo?", "vertigo"),
        ("Is motion perception deficit in schizophrenia a consequence of eye-tracking abnormality?", ""),
        ("What is the difference between fissure vs hemorrhoids?", ""),
        ("Uniformity of evidence-based treatments in practice?", ""),
        ("  of\tin  ", ""),
        ("Answer as a nurse would. How is gout treated?", "gout"),
        ("My son, 5, coughs at night. What causes croup?", "croup"),
        ("I have gout. How is it treated?", ""),
        ("What is asthma? What is gout?", ""),
    ],
)
def test_verbs_and_comparisons_are_no_part_of_a_topic(question: str, topic: str) -> None:
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
    lines = files("medqa_cli.resources").joinpath("synonyms.txt").read_text(encoding="utf-8").splitlines()
    things = [line.split(" = ") for line in lines if line and not line.startswith("#")]
    names = Counter(name for thing in things for name in {topic_names(name)[0] for name in thing})
    assert [name for name, lines_with_it in names.items() if lines_with_it > 1] == []
    assert min(len(thing) for thing in things) >= 2
    assert len(first_synonyms()) > 800


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("¿Qué es el glaucoma?", ""),
        ("¿Cómo noto que tengo psoriasis?", ""),
        ("glaucoma", "glaucoma"),
    ],
)
def test_a_question_in_another_language_names_no_topic(question: str, topic: str) -> None:
    assert topic_of(question, "") == topic


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


@pytest.mark.parametrize(
    ("rows", "known", "distinct", "once", "said"),
    [
        (10, 0, 0, 0, "no topic is known"),
        (10, 4, 2, 0, "topics are known for only 4 of 10 rows"),
        (10, 5, 2, 0, ""),
        (16, 16, 8, 8, "8 of 8 topics occur on one row only (16 rows)"),
        (16, 16, 7, 7, ""),  # fewer than eight topics say nothing
        (17, 17, 8, 8, ""),  # fewer than half of the rows stand alone
    ],
)
def test_doubt_is_said_from_its_limits_on(rows: int, known: int, distinct: int, once: int, said: str) -> None:
    assert TopicCounts(rows, known, distinct, once).doubt == said
