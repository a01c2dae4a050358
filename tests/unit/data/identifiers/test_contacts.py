"""Phones, faxes, mail and accounts on the web, in a text about one person: what is found, and what is the public's."""

import pytest

from medqa_cli.data.identifiers.finding import find_in_row


def found(text: str) -> list[tuple[str, str]]:
    return [(find.kind, text[find.start : find.end]) for find in find_in_row(text, "")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Behind the site, or "as" and the like.
        ("My scar is on TikTok as crampsandcats, is it healing?", "crampsandcats"),
        ("my insta is hollyguts, rash pics are there", "hollyguts"),
        ("Discord: holly.guts if you have POTS like me.", "holly.guts"),
        ("Skype live:holly.guts_3 for my therapy", "live:holly.guts_3"),
        ("My youtube channel HollyTalksIBD shows how I change my stoma bag.", "HollyTalksIBD"),
        ("DM me at crohnsyholly if you had a J-pouch, mine leaks.", "crohnsyholly"),
        ("You find me on the other board as grumpyholly, my gut is a mess.", "grumpyholly"),
        ('She signs as "justholly" but it is my daughter who writes.', "justholly"),
        ("I'm hollyguts on Reddit and my sister has lupus.", "hollyguts"),
        ("my tiktok gutlesstess shows how I walk, my knee is better", "gutlesstess"),
        ("IG - gutlesstess for pics of my scar", "gutlesstess"),
        ("I post under gutlesstess, my knee is worse", "gutlesstess"),
        # Posters.
        ("User hollyguts asked Mar 10: my cortisol is low, what now?", "hollyguts"),
        ("In reply to holly.guts26: no, I would not stop my pills.", "holly.guts26"),
        ("Posted by hollyguts 3 days ago: my stoma bleeds", "hollyguts"),
        ("crohnsyholly wrote: my stoma bleeds, what do I do?", "crohnsyholly"),
        ("Thanks to holly.guts for the tip, my cramps are gone.", "holly.guts"),
        ("I asked u/holly.g.guts and she told me to rest my knee.", "u/holly.g.guts"),
        ("Thanks to all who answered, especially u/33hollyg, my knee is fine.", "u/33hollyg"),
        ("To Zebra97inTX: sorry to read this. My sister has lupus too.", "Zebra97inTX"),
        # Pages.
        ("My knee: patient.info/forums/profiles/gutlesstess-448", "patient.info/forums/profiles/gutlesstess-448"),
        ("I stream my chemo on twitch.tv/gutlesstess most days", "twitch.tv/gutlesstess"),
        ("Follow my kidney journey at www.beansandbags.example, I post my labs.", "www.beansandbags.example"),
        ("I write about my son's spina bifida on wheelsandwaffles.blog most days.", "wheelsandwaffles.blog"),
        (
            "My x-rays are at http://www.hollyguts.example/my-page, I fell off a ladder.",
            "http://www.hollyguts.example/my-page",
        ),
        ("Help me walk: https://www.gofundme.com/f/legs-for-holly", "https://www.gofundme.com/f/legs-for-holly"),
    ],
)
def test_an_account_or_page_of_a_person_is_found(text: str, value: str) -> None:
    assert ("profile", value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "My son is on Instagram all day, my friend posted on Facebook, and his eyes hurt.",
        "I asked on Reddit too. My gut hurts. Follow me up in two weeks, my doctor wrote.",
        "My user manual and the user interface of my pump are bad. I add salt.",
        "My worm is Paragonimus, also known as lungwurm. I take creams like Ala-Cort, twice.",
        "I read www.mayoclinic.org and https://www.orpha.net about my gout.",
        "My pressure is high.no meds help. I felt it on.at night my leg hurts.",
        "Message from my doctor: rest. I was told to thank you: for this, regards",
        "On 2 May, V. Rupnik wrote: my client at 203.0.113.7 writes again.",
        "Pacjentka po operacji, moja mama ma kaszel.",
    ],
)
def test_sites_and_pages_of_the_public_stay(text: str) -> None:
    assert [value for kind, value in found(text) if kind == "profile"] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # The words of another sentence, or a number of an insurance, do not make it the public's.
        ("The front desk never got it. They say the fax 212 555 0187 is right, for my x-ray.", "212 555 0187"),
        ("medicare 2428 77815 1. referral to my heart doctor, fax 03 5550 1788. i am 72.", "03 5550 1788"),
        ("Ph 555-0148 / Fx 555-0147, my doctor wants my ECG.", "555-0147"),
        ("Use that fax for my results, not the old line 4542.9177.", "4542.9177"),
        ("télécopie : 04 99 57 44 88, mon médecin attend mon dossier", "04 99 57 44 88"),
        ("Please send my biopsy to my private office, 964 58 842.", "964 58 842"),
        ("My number is (855) 555-0139 and my period is late.", "(855) 555-0139"),
        ("MY NUMBER IS 885-998-7581 EXT 802. MY KNEE IS SORE TODAY.", "885-998-7581 EXT 802"),
        ("Next of kin: Holly, wife, 555-0191. Pt confused, seen by me.", "555-0191"),
    ],
)
def test_a_phone_or_fax_of_a_person_is_found(text: str, value: str) -> None:
    assert value in [value for kind, value in found(text) if kind in ("phone", "fax")]


@pytest.mark.parametrize(
    "text",
    [
        "My peak flows are 420-450-430-380 this week, my last readings 220 181 156 140.",
        "Carers can ring 0808 808 00 00, my nurse said.",
        "My son ate a berry, the poison line in Berlin is 030 19240.",
        "Our clinic (front desk 555-0134, fax 555-0135) gives vaccines on weekdays.",
        "Alarm 104-1302 on my pump. The suicide line 0800 689 5652 is free.",
        "Medicaid answers at 212-555-0144, my doctor said.",
    ],
)
def test_readings_and_numbers_of_the_public_stay(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("My scan: holly underscore guts at yahoo dot co dot uk", "holly underscore guts at yahoo dot co dot uk"),
        ("She can be reached at holly.guts [at] icloud [dot] com about my knee", "holly.guts [at] icloud [dot] com"),
        ("mi correo es holly arroba gmail punto com, mi hija tiene tos", "holly arroba gmail punto com"),
        ("Meine Werte an holly(at)gmx(punkt)de", "holly(at)gmx(punkt)de"),
    ],
)
def test_a_mail_address_is_found_however_it_is_spelled_out(text: str, value: str) -> None:
    assert ("email", value) in found(text)


def test_a_site_within_a_word_is_none() -> None:
    assert ("profile", "Leclerc") not in found("Bonjour docteur, here is Aimé Leclerc, I saw you in May, my ear hurts.")


@pytest.mark.parametrize("number", ["080-555-0173", "08-050 83 09", "98/842-5530"])
def test_a_phone_that_begins_as_a_free_one_is_found(number: str) -> None:
    assert number in [value for _, value in found(f"Next of kin: my wife, {number}, please call her about my ear.")]


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        ("My son plays as keith.smith for ten hours a day and his wrist hurts.", "keith.smith"),
        ("- annabelle.rn.58, diagnosed 2019, still tired every day", "annabelle.rn.58"),
        ("Thanks to jake-ankra-12 I asked my doctor about my thyroid.", "jake-ankra-12"),
        ("Find me on Instagram, I'm itspaulettehere, I had the same operation.", "itspaulettehere"),
        ("Re: rash\nfrom: papa.sabine\nMy rash is back, what now?", "papa.sabine"),
        ("(name on the forum: coachgalova) My CRP is 40, is that bad?", "coachgalova"),
        ("Ronaldthegreat? No: ronaldthegreat says my TSH is fine.", "ronaldthegreat"),
        ("I asked nurse.dominic and the doctor about my knee.", "nurse.dominic"),
        ("17antony liked my post about my colitis.", "17antony"),
        ("My therapist found my profile josereinhardt and I feel exposed.", "josereinhardt"),
        ("See http://www.kramerhealth.example/denise for my story.", "http://www.kramerhealth.example/denise"),
    ],
)
def test_a_name_of_an_account_is_found_by_its_form(text: str, handle: str) -> None:
    assert [text[find.start : find.end] for find in find_in_row(text, "") if find.kind == "profile"] == [handle]


@pytest.mark.parametrize(
    "text",
    [
        "My pain is back.it was gone.now I take prednisone-20 and co-codamol.",
        "My mother takes omega-3 and my father had covid-19, we read womenshealth.gov/anna about it.",
        "My aunt marieluise hoffmann has a rash, annamaria and rosemarie told me.",
        "My symptoms:\nheadache\ndizziness, worse in bed\nam I anemic, doctor?",
    ],
)
def test_words_with_points_and_hyphens_are_no_names_of_accounts(text: str) -> None:
    assert [text[find.start : find.end] for find in find_in_row(text, "") if find.kind == "profile"] == []
