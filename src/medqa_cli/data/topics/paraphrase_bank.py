"""The bank of wordings by kind of question, for ``paraphrases``. Data only.

Each wording asks what the original asks, so that its answer stays right: how common an illness is does not become what
causes it, and how it is inherited does not become what that means for the one who asks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wordings:
    """The wordings of a kind: for any topic, and those that only suit an illness which an adult can have.

    ``{topic}`` stands for the topic as it is written, ``{lower}`` for the topic as it stands in running text. The
    general wordings do not depend on the topic's number or article; those for an illness may.
    """

    general: tuple[str, ...]
    illness: tuple[str, ...] = ()


BANK: dict[str, Wordings] = {
    "information": Wordings(
        (
            "Tell me about {topic}.",
            "What do I need to know about {lower}?",
            "Can you explain {lower} to me?",
            "Please explain {topic}.",
            "Give me an overview of {lower}.",
            "I would like to know more about {lower}.",
            "I have read about {topic}. Can you tell me more?",
            "information on {lower}",
            "what should i know about {lower}",
            "Could you give me some information about {topic}?",
            "{topic}, what is that?",
            "what is meant by {lower}",
            "Describe {lower} for me.",
            "I know nothing about {lower}. What should I know?",
        ),
        (
            "I was just told I have {lower}. What is that?",
            "my mum has {lower}, what is that",
            "Someone in my family has {lower}. What is it?",
            "What kind of illness is {lower}?",
            "The doctor says a friend of mine has {topic}. Can you tell me what it is?",
        ),
    ),
    "symptoms": Wordings(
        (
            "Give symptoms of {lower}",
            "List the symptoms of {topic}.",
            "Which symptoms come with {lower}?",
            "symptoms of {lower}",
            "signs and symptoms of {lower}",
            "What signs and symptoms go along with {lower}?",
            "By which signs can I recognize {topic}?",
            "Tell me the symptoms of {topic}.",
            "What symptoms are seen with {lower}?",
            "What might someone with {topic} notice?",
            "Describe the signs and symptoms of {topic}.",
            "I am looking for the symptoms of {lower}.",
            "Can you list the signs of {lower}?",
            "what symptoms do people with {lower} have",
        ),
        (
            "{lower} symptoms",
            "I was just told I have {lower}. What symptoms does it cause?",
            "my mum has {lower}, what symptoms can it cause",
            "How does {lower} show itself?",
        ),
    ),
    "treatment": Wordings(
        (
            "How to treat {lower}?",
            "treatment for {lower}",
            "What can be done to treat {topic}?",
            "Which treatments exist for {topic}?",
            "List the treatment options for {lower}.",
            "What options are there for treating {lower}?",
            "how do doctors treat {lower}",
            "Tell me about the treatment of {topic}.",
            "What does treatment for {lower} involve?",
            "Give me the treatments for {lower}.",
            "What therapies are available for {lower}?",
            "Explain how doctors treat {topic}.",
            "I would like to know about treatments for {lower}.",
        ),
        (
            "{lower} treatment",
            "I was just told I have {lower}. How do doctors treat it?",
            "my mum has {lower}, what treatments are there",
            "A friend of mine has {topic}. What are the treatment options?",
        ),
    ),
    "causes": Wordings(
        (
            "causes of {lower}",
            "What is the cause of {topic}?",
            "What can cause {lower}?",
            "What leads to {lower}?",
            "What is behind {lower}?",
            "Explain the causes of {topic}.",
            "List the causes of {lower}.",
            "Tell me what causes {topic}.",
            "what brings on {lower}",
            "What is known about the cause of {lower}?",
            "Do you know what causes {topic}?",
            "I would like to know the causes of {lower}.",
            "What is responsible for {topic}?",
        ),
        (
            "Why do people get {lower}?",
            "I was just told I have {lower}. What causes it?",
            "my mum has {lower}, what causes this",
            "{lower} causes",
        ),
    ),
    "exams and tests": Wordings(
        (
            "How do doctors diagnose {topic}?",
            "diagnosis of {lower}",
            "Which tests are used to diagnose {lower}?",
            "how do doctors check for {lower}",
            "tests for {lower}",
            "List the tests used to diagnose {topic}.",
            "Tell me how doctors diagnose {lower}.",
            "What does a doctor do to diagnose {topic}?",
            "Explain the diagnosis of {topic}.",
            "What goes into the diagnosis of {lower}?",
            "Can you describe how doctors diagnose {lower}?",
            "what exams and tests are done to diagnose {lower}",
            "In what way do doctors diagnose {topic}?",
        ),
        (
            "How do doctors find out that a person has {lower}?",
            "My doctor wants to rule out {lower}. How is it diagnosed?",
            "{lower} diagnosis",
            "how can a doctor tell that someone has {lower}",
        ),
    ),
    "inheritance": Wordings(
        (
            "inheritance of {lower}",
            "Do people inherit {topic}?",
            "Can {lower} be inherited?",
            "Can {lower} be hereditary?",
            "Can {topic} be passed down in a family?",
            "What is known about the inheritance of {topic}?",
            "Tell me about the inheritance of {lower}.",
            "Explain whether {topic} can be inherited.",
            "can {lower} run in families",
            "inheritance pattern of {lower}",
            "I would like to know whether {lower} can be inherited.",
            "Describe the inheritance of {topic}.",
            "Please tell me whether {lower} can be hereditary.",
        ),
        (
            "Is {lower} hereditary?",
            "Someone in my family has {lower}. Is it inherited?",
            "I was just told I have {lower}. Is this condition inherited?",
            "is {lower} passed on from parents to children",
        ),
    ),
    "frequency": Wordings(
        (
            "How many people have {lower}?",
            "prevalence of {lower}",
            "What is the prevalence of {topic}?",
            "Do many people have {lower}?",
            "How many people live with {topic}?",
            "What share of people have {lower}?",
            "Give the number of people with {lower}.",
            "number of people with {lower}",
            "Tell me how many people have {topic}.",
            "how many people out there have {lower}",
            "Are there figures on how many people have {lower}?",
            "Please give me figures on the frequency of {topic}.",
            "What is known about the frequency of {lower}?",
        ),
        (
            "How common is {lower}?",
            "I was just told I have {lower}. How many people have it?",
            "how widespread is {lower}",
            "How often does {lower} occur?",
        ),
    ),
    "outlook": Wordings(
        (
            "prognosis for {lower}",
            "What is the prognosis for {topic}?",
            "What can people with {lower} expect in the long run?",
            "outlook for people with {lower}",
            "What does the future hold for people with {topic}?",
            "How do people with {lower} fare over time?",
            "Tell me about the prognosis for {topic}.",
            "What is the expected outcome of {lower}?",
            "Describe the prognosis of {lower}.",
            "How well do people with {topic} do?",
            "what should people with {lower} expect for the future",
            "Explain the long-term outlook for {topic}.",
            "I would like to know the prognosis for {lower}.",
        ),
        (
            "{lower} prognosis",
            "I was just told I have {lower}. What is the outlook for people who have it?",
            "my mum has {lower}, what is the outlook for people with it",
            "How does {lower} usually turn out?",
        ),
    ),
    "susceptibility": Wordings(
        (
            "Who gets {lower}?",
            "Who is most likely to get {topic}?",
            "Which people are at risk of {lower}?",
            "people at risk of {lower}",
            "who is prone to {lower}",
            "Which groups of people are more likely to get {lower}?",
            "Tell me who is at risk of {topic}.",
            "Who has a higher risk of {topic}?",
            "risk factors for {lower}",
            "List the risk factors for {topic}.",
            "For whom is the risk of {topic} higher?",
            "Are some people more at risk of {lower} than others?",
            "What raises the risk of {lower}?",
        ),
        (
            "{lower} risk factors",
            "Who tends to develop {lower}?",
            "What makes a person more likely to develop {topic}?",
        ),
    ),
    "prevention": Wordings(
        (
            "How can I prevent {lower}?",
            "prevention of {lower}",
            "What can I do to prevent {topic}?",
            "Can {lower} be prevented?",
            "What helps prevent {lower}?",
            "ways to prevent {lower}",
            "List ways of preventing {topic}.",
            "How do people protect themselves from {lower}?",
            "Is there a way to prevent {topic}?",
            "preventing {lower}",
            "Give advice on preventing {topic}.",
            "Tell me what can be done to prevent {lower}.",
            "which steps help to prevent {lower}",
        ),
        (
            "{lower} prevention",
            "I do not want to get {lower}. How can it be prevented?",
            "How do I keep from getting {lower}?",
        ),
    ),
    "genetic changes": Wordings(
        (
            "Which genes are related to {topic}?",
            "gene changes in {lower}",
            "What gene mutations are linked to {lower}?",
            "genes involved in {lower}",
            "Which genetic changes go with {lower}?",
            "Tell me about the genetic changes linked to {topic}.",
            "List the genes related to {lower}.",
            "What is known about the genes behind {lower}?",
            "Which changes in DNA are related to {topic}?",
        ),
        (
            "I was just told I have {lower}. Which genetic changes are related to it?",
            "Which genes are changed in people with {lower}?",
        ),
    ),
    "research": Wordings(
        (
            "What research is being done on {lower}?",
            "research on {lower}",
            "Which studies or clinical trials look at {lower}?",
            "Tell me about current research on {topic}.",
            "research and clinical trials on {lower}",
            "What are scientists doing to learn more about {topic}?",
            "What are researchers studying about {lower}?",
            "How is research on {topic} moving forward?",
        ),
        ("my mum has {lower}, what research is being done on it",),
    ),
    "considerations": Wordings(
        (
            "What should I do about {lower}?",
            "what to do about {lower}",
            "What can I do about {topic}?",
            "What should people do for {topic}?",
            "Tell me what to do for {lower}.",
            "what can people do about {lower}",
            "Please advise me on what to do about {topic}.",
        ),
        ("I was just told I have {lower}. What should people with it do?",),
    ),
    "stages": Wordings(
        (
            "stages of {lower}",
            "What stages can {lower} have?",
            "List the stages of {topic}.",
            "How do doctors stage {lower}?",
            "Tell me about the stages of {topic}.",
            "Explain the staging of {topic}.",
            "how are the stages of {lower} defined",
        ),
        ("I was just told I have {lower}. Which stages does it have?",),
    ),
    "complications": Wordings(
        (
            "complications of {lower}",
            "Which complications can {topic} cause?",
            "What problems can {lower} lead to?",
            "List the complications of {topic}.",
            "Tell me about the complications of {lower}.",
            "what complications can come with {lower}",
            "Which complications do doctors see with {topic}?",
        ),
        ("I was just told I have {lower}. What complications can it have?",),
    ),
    "support groups": Wordings(
        (
            "support for people with {lower}",
            "Which support groups are there for people with {topic}?",
            "Where can I find support for people with {topic}?",
            "How do people with {lower} find support?",
            "Tell me where people with {topic} can find support.",
            "support groups for people with {lower}",
        ),
    ),
}
