"""How a topic stands in a sentence: which of its words are small in running text, whether it is an illness or a title.

Knows nothing of questions, and is careful: a word that might be a name keeps its capital, a topic that is not surely
the name of an illness is none.
"""

from __future__ import annotations

import re

# Titles of pages, not names: "What I need to know about Gas", "Parasites - Loiasis". No sentence reads well with them.
_TITLE = re.compile(
    r"(?:What|How|Am|I (?:Can|Need)|Your|My|Prevent|Monitor|Facing|Understanding|Causes|Diagnosis|Overview|"
    r"Treatment|\d+ Steps)\b|.*(?:: | - |--|\b(?:Guide|Resource List)\b)"
)

# What "I have ..." and "... is a kind of illness" can be said of: names in the singular that take no article.
_ILLNESS = re.compile(
    r"[^,:;/]*?(?:\b(?:disease|syndrome|disorder|cancer|diabetes|dystrophy|dysplasia|deficiency|anemia|asthma|gout|"
    r"dementia|epilepsy|ataxia|dystonia|palsy|osteoporosis|depression|psoriasis|eczema|obesity|migraine|lupus|porphyria|"
    r"apnea|influenza|flu|malaria|rabies|measles|mumps|shingles|chickenpox|acne|vitiligo|autism|schizophrenia|"
    r"hypertension|hypotension|fibrosis|fibrillation|heart failure|kidney failure|blood pressure|pneumonia)"
    r"|[a-z]{3,}(?:itis|osis|asis|emia|pathy|oma|penia|uria|algia|plegia|rrhea|myelia|trophy|chromia|lepsy|philia))"
    r"(?: type)?(?: (?:\d{1,2}[A-Za-z]?|[IVX]{1,4}|[A-E]))?(?: \([^()]*\))?",
    re.IGNORECASE,
)
# Not said by an adult of himself or his mother, or not of one illness.
_NOT_OF_AN_ADULT = re.compile(
    r"\b(?:child(?:hood|ren)?|infan\w*|newborns?|neonatal|fetal|juvenile|pediatric|perinatal|maternal|pregnan\w*|"
    r"gestational|lethal|fatal|death|adolescen\w*|(?:fe)?males?|m[ae]n|wom[ae]n|prostat\w*|testicular|penile|adults?|"
    r"X.linked|and|or|with|in|for|to|like)\b",
    re.IGNORECASE,
)
_MOST_WORDS_OF_AN_ILLNESS = 6

_CAPITALISED_OR_SHORT = re.compile(r"[^a-z]|[a-z]{1,3}\b")
_CAPITALISED = re.compile(r"(?<![\w'’.])[A-Z][a-z]{2,}(?![\w'’.])")
# Endings that mark a word of medicine; names of people and places that share one are listed below.
_MEDICAL_ENDING = re.compile(
    r"[A-Z][a-z]{2,}(?:itis|osis|oses|asis|oma|omas|emia|emias|pathy|pathies|algia|plegia|trophy|plasia|genesis|uria|"
    r"penia|philia|rrhea|ectomy|ology|scopy|therapy|cephaly|dactyly|ectasia|tion|sion|ency|ility|ness|"
    r"ment|sclerosis)"
    r"|[A-Z][a-z]{3,}(?:al|ic|ive|ous|oid|ular|ary|ism)"
)
_NAMES_TEXT = """
Ghosal Hispanic Hoyeraal Jankovic Marfanoid Montreal Native National Pacific Rosenthal Senegal Portugal Westphal
International Atlantic Islamic Celtic Slavic Nordic Baltic Hungary Zachary Dominic Oriental Continental
"""
_ORDINARY_TEXT = """
Abscess Absence Abuse Accessory Acid Acne Acromegaly Acute Adhesions Adult Adults Age Agents Aging Air Alcohol
Allergies Allergy Alopecia Alternative Amyotrophic Anal Anemia Aneurysm Angina Ankle Ankles Anthrax Anxiety Apnea Arm
Arrest Arrhythmia Artery Arthritis Asbestos Asthma Ataxia Atopic Atresia Atrophy Attack Attention Autism Autoimmune
Back Bacteria Balance Behavior Benign Bile Biliary Bipolar Birth Bite Bites Bladder Bleeding Blindness Blockage Blood
Body Bone Botulism Bowel Brain Breast Breath Breathing Broken Bronchiectasis Bruises Bunion Burns Bypass Cancer
Cancers Cardiac Care Caregiving Carotid Cataract Cataracts Cavity Celiac Cell Cells Cervix Chest Child Childhood
Children Chlamydia Choking Cholera Cholesterol Chorea Chromosome Chronic Cleft Clot Clots Cold Colon Common
Complications Concussion Conditions Consequences Cord Cough Cramps Creating Cyst Cystic Cystocele Cysts Damage
Dandruff Deafness Deep Defect Defects Defibrillators Deficiency Delay Deletion Dementia Dengue Dental Depression
Deprivation Diabetes Diabetic Dialysis Diarrhea Diet Diffuse Digestive Diphtheria Disabilities Disability Disease
Diseases Disorder Disorders Distress Dizziness Donation Drinking Drowning Drug Drugs Dry Duct Duplication Dwarfism
Dyskinesia Dyslexia Dystonia Dystonias Ear Early Eating Ectopic Edema Elbow Embolism Epilepsy Erectile Exercise Eye
Eyes Failure Fainting Fallopian Familial Family Fat Fatigue Fats Fecal Fetal Fever Finger Fingers Fistula Flatfoot Flu
Fluid Focal Food Foodborne Foot Forearm Fracture Fractures Fungal Fungoides Gallbladder Gallstones Gangrene Gas Germ
Gland Glaucoma Gonorrhea Gout Gravis Growth Gum Hair Hairy Hand Hantavirus Headache Headaches Health Hearing Heart
Heartburn Heat Hemodialysis Hemorrhagic Hemorrhoids Hepatic Hereditary Hernia Herpes High Hip History Hives Holes
Hormone Human Hunger Hydrocephalus Hyperactivity Hypersensitivity Illness Immune Incompetence Incontinence Infantile
Infarction Infection Infections Infectious Infertility Inflammatory Influenza Inherited Injuries Injury Insomnia
Insulin Intestine Intolerance Iron Irritable Islet Itching Jaundice Joint Juvenile Kidney Knee Lactose Language
Lateral Learning Leg Legs Leukemia Lice Limb Lip Lipase Liver Localized Loss Low Lung Lupus Lymph Macular Malaria Male
Males Malignancies Malignant Marine Marrow Mass Measles Medicines Membrane Memory Men Menopause Menstruation Mental
Migraine Mild Mineral Minerals Monosomy Mood Motor Mouth Multiple Mumps Murmur Muscle Muscular Myasthenia Myoclonus
Nail Nails Narcolepsy Nasal Nausea Neck Neoplasm Neoplasms Nephritis Nerve Neurological Neuron Newborns Node Nodes Non
Nose Nutrition Obesity Obsessive Occult Occurrence Older Optica Oral Ovarian Overactive Overweight Oxygen Pacemaker
Pacemakers Pain Palate Palpitations Palsy Panic Paralyses Paralysis Pelvis Penile Peptic Periods Peripheral
Personality Pertussis Phobia Phobias Pinkeye Plague Plasma Pneumonia Poisoning Polio Polyps Porphyria Prediabetes
Pregnancy Pressure Primary Problem Problems Program Prolapse Prostate Protein Proteins Pulmonary Purpura Quitting
Rabies Rare Rash Rate Reconstruction Reflux Relapsing Related Renal Replacement Resistance Respiratory Restless
Retention Retinal Rhythm Risk Rotavirus Rubella Salivary Salt Scabies Sciatica Scleroderma Sclerosing Screening
Seizure Seizures Sensitivity Sepsis Severe Shingles Shock Shoulder Sickle Sickness Sinus Skin Sleep Small Smallpox
Smell Smoking Sneezing Snoring Soft Spasm Spastic Speech Spinal Spine Sponge Stem Stenosis Stiff Sting Stings Stomach
Stone Stones Storage Stress Stroke Stuttering Sudden Sugar Surgery Surviving Swallowing Syndrome Syndromes Syndromic
Syphilis System Taste Teeth Test Testicle Tests Tetanus Thirst Throat Tinnitus Tissue Toe Toes Tongue Tonsillitis
Tonsils Tooth Toxic Toxins Tract Transient Transplant Transplantation Trauma Tremor Trisomy Tube Tumor Tumors Type
Typhoid Ulcer Ulcerative Ulcers Unclassifiable Upper Ureter Urinary Urine Use Uterine Vaccine Vaccines Vaginal Valve
Varicose Vein Veins Vertigo Viral Virus Vision Vitamin Voice Vomiting Vulvar Walking Warts Weight Wheezing Whiplash
Women Wound Wrist Yeast
"""
_NAMES = frozenset(_NAMES_TEXT.split())
_ORDINARY = frozenset(_ORDINARY_TEXT.split())


def in_running_text(topic: str) -> str:
    """Return the topic as it stands in running text: ordinary words small, names and abbreviations as they are.

    Args:
        topic: for example ``Parkinson's Disease``.

    Returns:
        for example ``Parkinson's disease``; a word that might be a name keeps its capital, and where the last one
        might be, all do: "Myasthenia Gravis" is not made "myasthenia Gravis".
    """
    capitalised = _CAPITALISED.findall(topic)
    if not capitalised or not _is_ordinary(capitalised[-1]):
        return topic
    return _CAPITALISED.sub(lambda match: match[0].lower() if _is_ordinary(match[0]) else match[0], topic)


def names_illness(topic: str) -> bool:
    """Tell whether a topic without prepositions ends like the name of an illness, whoever has it."""
    return _ILLNESS.fullmatch(topic) is not None


def is_illness(topic: str) -> bool:
    """Tell whether a topic is surely the name of one illness, such that an adult can say "I have" it."""
    return (
        len(topic.split()) <= _MOST_WORDS_OF_AN_ILLNESS
        and names_illness(topic)
        and _NOT_OF_AN_ADULT.search(topic) is None
    )


def is_capitalised(topic: str) -> bool:
    """Tell whether all words but short ones begin large, as in names of illnesses and titles of pages."""
    return topic[:1].isupper() and all(_CAPITALISED_OR_SHORT.match(word) for word in topic.split())


def is_title(topic: str) -> bool:
    """Tell whether a topic is the title of a page ("What I need to know about Gas") rather than the name of a thing."""
    return _TITLE.match(topic) is not None


def _is_ordinary(word: str) -> bool:
    return word in _ORDINARY or (_MEDICAL_ENDING.fullmatch(word) is not None and word not in _NAMES)
