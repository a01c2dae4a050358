"""The signs of an emergency, by kind, as patterns over a question in small letters; and what is said at each.

English only. Does not decide whether the question speaks of a person in danger now: ``emergencies`` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CALL = "Call your local emergency number now."


@dataclass(frozen=True)
class Kind:
    """One kind of emergency: its name, what is said, and the patterns of its signs."""

    name: str
    notice: str
    signs: tuple[re.Pattern[str], ...]


def _kind(name: str, advice: str, *signs: str) -> Kind:
    return Kind(name, f"{_CALL} {advice}", tuple(re.compile(sign) for sign in signs))


_WHO = r"(?:my|his|her|the|their|our|your|one|whole|entire)"
_CANNOT = r"(?:can(?:no|')?t|can not|cannot|couldn't|could not|unable to|not able to|struggling to|fighting to)"
_MANY = (
    r"(?:too many|too much|a lot of|lots of|all (?:of )?(?:my|his|her|the|their)|(?:a|the|my|her|his) whole"
    r"|whole|entire"
    r"|a (?:full )?bottle|the bottle|a bunch|bunch of|handfuls?|a box|the box|a pack(?:et|age)?|(?:the "
    r"|a )?(?:strip|blister|sheet)|twice the|double|triple|[1-9]\d+"
    r"|(?:ten|twelve|fifteen|twenty|thirty|forty|fifty|sixty|hundred)\b)"
)
_MEDICINE = (
    r"(?:pills?|tablets?|capsules?|medicines?|medications?|meds|tylenol|acetaminophen|paracetamol|ibuprofen"
    r"|aspirin|advil|opioids?"
    r"|insulin|xanax|valium|oxycodone|sleeping|antidepressants?|vodka|iron|painkillers?|benadryl|metformin|digoxin"
    r"|bottle|vitamins?)"
)
_POISON = (
    r"(?:bleach|antifreeze|rat poison|rat bait|pesticides?|weed ?killer|insecticide|detergent|laundry pods?"
    r"|drain cleaner"
    r"|(?:oven|toilet|floor|household) cleaner|button batter(?:y|ies)|batter(?:y|ies)|magnets|lamp oil"
    r"|gasoline|petrol"
    r"|paint thinner|turpentine|methanol|lighter fluid|poison(?:ous)?|wild mushrooms?|berries|cyanide"
    r"|fentanyl|heroin)"
)
_TOOK = (
    r"(?:took|taken|takes|swallowed|swallowing|ate|eaten|drank|drunk|drinking|ingested|chewed|injected"
    r"|got into|washed down"
    r"|washing down|downed|gulped|popped|sipped|licked|"
    r"gave (?:myself|him|her))"
)
_BABY = (
    r"(?:baby|babies|newborn|infant|bab(?:y|ies)'s|\w+[- ](?:day|week|month)s?[- ]olds?|\w+ months? old"
    r"|\w+ weeks? old)"
)
_YOUNG = (
    r"(?:newborn|(?:\d|one|two|three|four|five|six|seven|eight|nine|ten|1\d)[- ](?:day|week)s?[- ]old"
    r"|(?:1|2|one|two)[- ]months?[- ]old)"
)

KINDS = (
    _kind(
        "stroke",
        "These can be signs of a stroke, where minutes count. Note when they began.",
        r"\bone (?:side|half) of (?:my|his|her) (?:body|face)\b[^?!]{0,30}\b(?:work|mov\w+|feel\w*|weak|numb"
        r"|dead|limp)",
        r"\bdrool\w*\b[^.?!]{0,30}\b(?:corner|side)\b",
        r"\bface\b[^.?!]{0,25}\b(?:droop|sagg?|fall(?:en|ing)|numb|crooked|lopsided|twisted|one side)",
        r"\b(?:droop\w*|sagging|crooked|lopsided) (?:face|mouth|smile)|\b(?:mouth|smile|side of (?:my|his|her) \w+)\b"
        r"[^.?!]{0,15}\b(?:droop|sagg|crooked|lopsided|hanging)",
        r"\bslurr(?:ed|ing|y|s)\b|\b(?:speech|words|talking)\b[^.?!]{0,30}\b(?:slurred|garbled|gibberish"
        r"|no sense|jumbled|mumbl)"
        r"|\b(?:talking|speaking) (?:gibberish|nonsense)",
        rf"{_CANNOT} (?:move|lift|feel|raise|use) (?:{_WHO} )+(?:(?:left|right|one) )?(?:arm|leg|side|hand)\b"
        rf"|{_CANNOT} (?:move|feel) (?:the )?(?:left|right|one) (?:side|half)",
        r"\b(?:sudden\w*|just|all at once|out of nowhere)\b[^.?!]{0,50}\b(?:weak|numb|confused|paraly[sz]ed"
        r"|can'?t (?:speak|talk|see|move|walk|read|stand)"
        r"|cannot (?:speak|talk|see|read|walk)|(?:half|part) of (?:my|his|her) (?:sight|vision)"
        r"|lost (?:vision|(?:my|his|her) (?:vision|sight|speech|balance))|blind)",
        r"\b(?:arm|leg|side|half)\b[^.?!]{0,40}\b(?:went|gone|has gone|suddenly|is)\b[^.?!]{0,15}\b(?:numb"
        r"|weak|limp|dead|paraly[sz]ed)"
        r"[^.?!]{0,50}(?:speak|talk|speech|drunk|slur|face|confus|sudden|min|hour|now|woke|side|ago)",
        r"\b(?:eyelid|cheek|corner of (?:the|my|his|her) mouth)\b[^.?!]{0,30}\b(?:dropp\w*|droop\w*|hang\w*|sagg\w*)",
        r"\b(?:having|had|has|suffering|is it|think it's|think it is) (?:just )?(?:a|another) (?:mini[- ])?stroke\b",
        r"\bspeech\b[^.?!]{0,15}\b(?:is|sounds|became|got|went|has gone)\b[^.?!]{0,15}\b(?:thick|odd|funny"
        r"|strange|slow|weird|off|unclear)"
        rf"|\b{_CANNOT} (?:find (?:the |my |his |her )?words|smile|get (?:his|her|my) words out)",
        r"\b(?:sudden\w*|all of a sudden|out of the blue|woke up|since this (?:morning|afternoon|evening)"
        r"|minutes ago|an hour ago)\b[^?!]{0,80}"
        r"\b(?:recogni[sz]e|confus\w*|walks? into|walking into|double vision|see(?:s|ing)? double|numb\w*"
        r"|weak\w*|speech|balance|droop\w*)",
        r"\b(?:arm|leg|hand|face|side)\b[^.?!]{0,20}\b(?:went|gone) (?:completely |all )?(?:numb|weak|limp|dead)\b",
        r"\bworst headache\b|\bthunderclap headache",
    ),
    _kind(
        "heart attack",
        "Chest pain and signs like these can be a heart attack. Rest, do not drive yourself.",
        r"\b(?:clutch\w*|grab\w*|holding) (?:at )?(?:my|his|her) chest\b|\bslumped over\b|\bno heart ?beat\b",
        r"\b(?:chest|breastbone)\b[^.?!]{0,30}\b(?:pains?|pressure|tight\w*|hurt\w*|heavy|heaviness|crushing"
        r"|squeez\w*|burning|killing|clamp\w*)",
        r"\b(?:pain|pressure|tightness|squeezing|crushing|heaviness|heavy weight|weight|elephant|vice|vise)"
        r"\b[^.?!]{0,30}\b(?:chest|breastbone)\b",
        r"\b(?:standing|sitting|stabb\w*|press\w*|ach\w*|burn\w*|weigh\w*|grip\w*|band|brick|discomfort"
        r"|stone)\b[^.?!]{0,30}\bchest\b"
        r"|\bchest\b[^.?!]{0,30}\b(?:stabb\w*|press\w*|ach\w*|weigh\w*|grip\w*|discomfort)",
        r"\b(?:left arm|both arms|jaw|shoulder)\b[^.?!]{0,30}\b(?:ach\w*|hurt\w*|pain\w*|numb)"
        r"\b[^?!]{0,60}\b(?:sweat\w*|chest|nause\w*|breath\w*|clammy)",
        r"\b(?:faint\w*|passed out|collapsed|keeled over|blacked out|slumped)\b[^?!]{0,80}\b(?:gr[ae]y|pale"
        r"|answer\w*|mov(?:e|ing)|sweat\w*|clammy)",
        r"\bpain\b[^.?!]{0,30}\b(?:spread\w*|radiat\w*|down|shoot\w*|going|goes|into)"
        r"\b[^.?!]{0,25}\b(?:left arm|arm|jaw)\b"
        r"[^.?!]{0,60}\b(?:sweat\w*|breath|nause\w*|chest|dizz\w*)",
        r"\b(?:having|has|suffering|is it|think it's|this is) (?:just |maybe )?(?:a|another) heart attack\b"
        r"|\bheart attack (?:right )?now\b",
        r"\bcardiac arrest (?:right )?now\b|\bheart (?:has |just )?stopped\b|\bno pulse\b|\bcan'?t (?:feel"
        r"|find) (?:a|any|his|her) pulse",
        r"\b(?:collapsed|passed out|unconscious|unresponsive|not responding|fainted|blacked out)\b[^.?!]{0,80}"
        r"\b(?:wak\w*|respon\w*|now|breath\w*|floor|chest|just|minutes?)\b",
        r"\b(?:won't|will not|can'?t|cannot|doesn't|does not|not|isn't) (?:wake|waking|be woken|be roused"
        r"|respond(?:ing)?)\b"
        r"|\b(?:can'?t|cannot) (?:wake|rouse) (?:him|her|them|my|the)",
        r"\bjust (?:collapsed|fainted)\b|\b(?:is|are|he's|she's|lying) (?:lying )?(?:unconscious|unresponsive)\b",
    ),
    _kind(
        "severe allergic reaction",
        "This can be a severe allergic reaction. Use an adrenaline (epinephrine) injector if there is one.",
        r"\b(?:throat|tongue|lips?|face|airway|mouth)\b[^.?!]{0,35}\b(?:swell\w*|swollen|clos(?:ing|ed)"
        r"|tight\w*|puff\w*)\b"
        r"[^.?!]{0,80}\b(?:breath\w*|sting|stung|ate|eaten|eating|peanuts?|nuts?|shellfish|shrimp|hives"
        r"|wheez\w*|allerg\w*|bee|wasp|swallow\w*|after|now|antibiotic|penicillin|talk|fast|quickly)\b",
        r"\b(?:sting|stung|ate|eaten|eating|peanuts?|nuts?|shellfish|shrimp|allerg\w*|bee|wasp|penicillin"
        r"|antibiotic|injection|hives)\b"
        r"[^.?!]{0,100}\b(?:throat|tongue|lips?|face|airway)\b[^.?!]{0,25}\b(?:swell\w*|swollen|clos(?:ing"
        r"|ed)|tight\w*|puff\w*)\b",
        r"\bthroat (?:is |feels like it is |feels like it's |feels |keeps )?(?:closing|swelling|tightening)",
        r"\b(?:having|going into|in|has|is it) (?:a |an )?(?:severe |bad )?(?:anaphyla\w+|allergic reaction"
        r"|allergic shock)\b"
        r"[^.?!]{0,80}|\banaphyla\w+ (?:right )?now",
        r"\b(?:stung|sting|ate|eaten|allerg\w*|nuts?|peanuts?|medicine|antibiotic|injection|vaccinated)"
        r"\b[^?!]{0,90}\b(?:hives|rash|welts|swoll\w*|swell\w*|thick)\b"
        r"[^?!]{0,60}\b(?:vomit\w*|throwing up|dizzy|faint\w*|breath\w*|wheez\w*|tongue|throat|swallow\w*|pale)",
        r"\b(?:stung|sting|ate|eaten|allerg\w*)\b[^?!]{0,80}\b(?:can'?t breathe|wheez\w*|dizzy|faint\w*"
        r"|trouble breathing)",
    ),
    _kind(
        "severe bleeding",
        "Press firmly on the wound without letting go until help comes.",
        r"\b(?:finger|fingers|hand|arm|leg|foot|toe|toes|thumb)\b[^.?!]{0,20}\b(?:cut|sliced|chopped|torn"
        r"|ripped|came) off\b",
        r"\b(?:huge|large|big|lots of) (?:blood )?clots\b",
        r"\b(?:bleeding|blood)\b[^.?!]{0,40}\b(?:won't stop|will not stop|not stop\w*|doesn't stop"
        r"|isn't stopping|hasn't stopped|everywhere"
        r"|spurt\w*|gush\w*|pour\w*|squirt\w*|pump\w*)",
        r"\b(?:spurt\w*|gush\w*|pour\w*|squirt\w*|pump\w*)\b[^.?!]{0,25}\bblood\b",
        rf"{_CANNOT} (?:stop|get)\b[^.?!]{{0,30}}\bbleed",
        r"\b(?:blood|bleeding)\b[^.?!]{0,25}\b(?:keeps? (?:coming|flowing|dripping|running)|coming through"
        r"|all over|through the)\b|\bbleeds and bleeds\b",
        r"\bblood thinners?\b[^?!]{0,60}\b(?:hit|fell|bang\w*|bump\w*)|\b(?:hit|fell|bang\w*)"
        r"\b[^?!]{0,60}\bblood thinners?\b"
        r"|\bdeep (?:cut|wound|gash|stab)\b[^?!]{0,60}\b(?:bleed\w*|blood)",
        r"\bbleeding (?:out|to death|heavily|badly|profusely|a lot|so much|very much)\b|\b(?:los(?:ing"
        r"|t)) (?:a lot of |so much |too much )blood",
        r"\b(?:vomit\w*|throw\w* up|threw up|cough\w*(?: up)?|puk\w*)(?: up)?(?: (?:a lot of|lots of|bright"
        r"|red|dark|so much|large amounts of|fresh)){0,3} blood",
        r"\bsoak(?:ed|ing) (?:through )?(?:\w+ ){0,3}(?:pads?|towels?|bandages?|shirt)\b|\b(?:bandages?"
        r"|towels?|pads?)\b[^.?!]{0,20}\bsoaked\b",
        r"\b(?:keeps?|still|kept) bleeding\b",
        r"\b(?:severed|cut off|chopped off|sliced|amputated)\b[^.?!]{0,30}\b(?:artery|finger|hand|arm|leg"
        r"|wrist|foot|thigh)",
        r"\b(?:stabbed|gunshot|been shot|was shot)\b",
    ),
    _kind(
        "overdose or poisoning",
        "Or call your poison centre. Keep the package at hand, and do not make anyone vomit unless you are told to.",
        rf"\b{_TOOK}\b[^.?!]{{0,40}}\bmushrooms?\b[^.?!]{{0,40}}\b(?:yard|garden|woods|forest|outside|lawn"
        rf"|found|picked|wild)",
        rf"\b{_TOOK}\b[^.?!]{{0,30}}\b{_MEDICINE}[^.?!]{{0,15}}\b(?:twice|two times|three times)\b",
        r"\boverdos(?:ed|ing)\b|\b(?:took|taken|having|having had|is|this) (?:an )?overdose\b"
        r"|\bhas had an overdose|\boverdose\b[^.?!]{0,20}\bnow\b",
        rf"\b{_TOOK}\b[^.?!]{{0,25}}\b{_MANY}[^.?!]{{0,40}}\b{_MEDICINE}",
        rf"\b{_TOOK}\b[^.?!]{{0,40}}\b{_POISON}",
        rf"\b{_MEDICINE}\b[^.?!]{{0,30}}\b(?:at once|all at once|in one go|by mistake and)\b",
        r"\bcarbon monoxide\b[^?!]{0,80}\b(?:alarm|headaches?|dizzy|beep\w*|going off|sick|faint)",
        r"\b(?:inhaled|breathed in|breathing in)\b[^.?!]{0,30}\b(?:fumes|gas|chlorine|smoke|carbon monoxide)",
        r"\b(?:smell of gas|gas smell|gas leak|smells? (?:like )?gas|smelling gas|fumes)"
        r"\b[^?!]{0,60}\b(?:dizzy|headaches?|vomit\w*|sick|faint\w*|sleepy|confused)",
        r"\b(?:been|was|got|being) poisoned\b",
        r"\b(?:bitten by|bit by|bit (?:me|him|her|my \w+))\b[^.?!]{0,20}\b(?:snake|viper|cobra|rattlesnake"
        r"|black widow)|\b(?:snake|viper|cobra|rattlesnake)\b[^.?!]{0,10}\b(?:bit|bitten)\b",
    ),
    _kind(
        "suicidal thoughts",
        "Or a crisis line. You are not alone: stay with someone, and keep out of reach what could do harm.",
        r"\bthink\w* (?:a lot )?(?:about|of) (?:suicide|dying|death)\b|\blife (?:isn't|is not|is no longer"
        r"|'s not) worth (?:living|it)\b",
        r"\b(?:goodbye|farewell|suicide) (?:letters?|notes?|messages?|videos?)\b|\b(?:cut|slit"
        r"|slashed) (?:his|her|my|their) wrists?\b",
        r"\b(?:kill|hang|shoot|cut|hurt|harm|drown|starve) (?:myself|himself|herself|themselves)\b",
        r"\b(?:end(?:ing)?|tak(?:e|es|ing)) (?:my|his|her|their)(?: own)? li(?:fe|ves)\b|\bend(?:ing)? it all\b",
        r"\b(?:want(?:s|ed)?|wish(?:es)?|going|plan(?:s|ning)?|ready|decided) (?:to )?(?:just )?(?:die"
        r"|be dead|i was dead|i were dead)\b",
        r"\b(?:jump(?:ing)?|throw (?:myself|himself|herself)) (?:off|from|out|in front)\b|\bin front of (?:a"
        r"|the) train\b"
        r"|\b(?:gun|pills|rope|noose|knife)\b[^?!]{0,40}\b(?:goodbye|die|myself|himself|herself|end it)"
        r"|\b(?:said|says|saying|say) goodbye\b[^?!]{0,40}\b(?:everyone|everybody|all|forever|life)",
        r"\b(?:want|wants|wish|wishes) (?:to|i was|i were|he was|she was) (?:be )?(?:dead|gone forever)\b"
        r"|\b(?:can'?t|cannot) (?:take|bear) (?:it|this|life) any ?(?:more|longer)\b",
        r"\bsuicidal\b|\b(?:commit|attempt\w*|thinking (?:about|of)|thoughts of|plan(?:ning)?|talking about"
        r"|tried|note|of) suicide\b|\bsuicide (?:note|plan|now)\b",
        r"\b(?:don't|do not|doesn't|does not|no longer) want(?:s)? to (?:live|be alive|be here|exist|wake up"
        r"|go on)\b",
        r"\bbetter off (?:dead|without me|if i (?:was|were) (?:dead|gone))|\bno (?:reason|point) (?:to"
        r"|in) (?:live|living|go on|going on)"
        r"|\b(?:can'?t|cannot) go on (?:living|like this|anymore|any longer)\b|\bnothing (?:left )?to live for",
    ),
    _kind(
        "seizure",
        "A seizure that lasts over five minutes, or one after another, is an emergency. Clear the space, hold nothing "
        "down, put nothing in the mouth.",
        r"\b(?:seizures?|seizing|convuls\w*|fits?)\b[^?!]{0,60}\b(?:won't (?:stop|end)|not stop\w*"
        r"|isn't stopping|still|doesn't stop|hasn't stopped"
        r"|over (?:five|5|10|ten)|more than (?:five|5|ten|10)|(?:five|[5-9]|ten|[1-9]\d|six|seven"
        r"|eight) minutes|one seizure after|after another|back to back|in a row"
        r"|not (?:waking|breathing)|won't wake)",
        r"\b(?:is|he's|she's|keeps|are|started|still|just) (?:now )?(?:having|in|had) (?:a |an "
        r"|another )?(?:\w+ ){0,2}(?:seizures?|fit|convulsions?)\b",
        r"\b(?:is|he's|she's|been|started|still) (?:seizing|convulsing|fitting)\b",
        r"\b(?:shaking|jerking|twitching)\b[^.?!]{0,40}\b(?:(?:not|doesn't|does not) (?:respond|react"
        r"|answer)\w*|won't respond|unresponsive|eyes rolled|can'?t hear|foam\w*|unconscious)",
        r"\b(?:whole|entire) body\b[^.?!]{0,30}\b(?:stiff|jerk\w*|shak\w*|twitch\w*|convuls\w*)"
        r"|\bstiff and (?:jerking|shaking|blue)|\b(?:stiffened|jerking) (?:all over|and)",
        r"\b(?:seizure|fit|convulsions?)\b[^?!]{0,50}\b(?:minutes? ago|still|twitching|continu\w*|going on"
        r"|again and again)",
        r"\beyes (?:have )?rolled (?:back|up)\b|\bfoaming at the mouth",
    ),
    _kind(
        "breathing trouble",
        "Trouble breathing cannot wait. Sit upright; use a rescue inhaler if there is one.",
        r"\bblue(?:ish)? (?:lips?|face|fingers?|skin|tongue)\b|\bchest (?:is )?(?:pull\w*|suck\w*|cav\w*) in\b",
        r"\bbreathing\b[^.?!]{0,15}\b(?:very |really |so )?(?:shallow|slow\w*|labou?red|heavily|noisy"
        r"|irregular\w*|fast)\b",
        rf"{_CANNOT} (?:breathe|catch (?:my|his|her|their) breath|get (?:any|enough) air|get air|swallow or breathe)",
        r"\b(?:hard|difficult) (?:for (?:me|him|her) )?to breathe\b|\b(?:trouble|difficulty|problems?"
        r"|hard time) (?:in )?breathing\b",
        r"\b(?:suck\w*|pull\w*|cav\w*) in\b[^.?!]{0,25}\bribs?\b|\bribs?\b[^.?!]{0,25}\b(?:suck\w*|pull\w*"
        r"|show\w*|cav\w*)\b|\b(?:to get|for|needs?) air\b|\binhaled (?:a|some)\b",
        r"\bbarely breath\w*|\bgasping\b|\bfighting for (?:air|breath)|\bsuffocat\w*"
        r"|\bstruggl\w+ (?:to breathe|for (?:air|breath))",
        r"\b(?:stopped|not|isn't|is not|no longer) breathing\b|\bbreathing (?:has )?stopped",
        r"\b(?:lips?|face|fingers?|skin|tongue|turn\w*|going|gone|went)\b[^.?!]{0,15}\b(?:blue|bluish|purple"
        r"|gr[ae]y)\b",
        r"\bchoking\b|\bstuck in (?:my|his|her|the) (?:throat|windpipe|airway)\b[^?!]{0,60}\b(?:breath\w*"
        r"|cough|talk|speak)",
        rf"\bwheez\w* (?:badly|a lot|hard)\b|{_CANNOT} (?:finish|speak|say|get out|talk in) (?:a |full "
        rf"|whole |complete )*sentences?",
        r"\binhaler\b[^.?!]{0,40}\b(?:not (?:helping|working)|isn't (?:helping|working)|doesn't (?:help|work)"
        r"|no longer|empty)",
        r"\b(?:short(?:ness)? of breath|breathless|out of breath|wheez\w*)\b[^?!]{0,60}\b(?:sudden\w*|worse"
        r"|wors(?:en|ening)|now|talk|speak|at rest|blue|minutes)",
        r"\b(?:sudden\w*|severe\w*|extreme\w*|very|so|really)\b[^.?!]{0,20}\b(?:short(?:ness)? of breath"
        r"|breathless)\b",
    ),
    _kind(
        "infant's danger signs",
        "A baby with signs like these needs help at once.",
        rf"\b{_BABY}\b[^?]{{0,90}}\b(?:limp|floppy|unresponsive|letharg\w+|(?:won't|not|can'?t|hard to"
        rf"|difficult to) (?:wak\w*|rouse)"
        r"|blue|bluish|gr[ae]y|bulging|sunken|grunt\w*|gasp\w*|stopped breathing|not breathing"
        r"|pauses? in breathing|green vomit|vomit\w* green"
        r"|ribs|nostrils|high[- ]pitched)",
        rf"\b{_BABY}\b[^?]{{0,60}}\b(?:(?:won't|not|refus\w+(?: to)?|hasn't|has not|isn't|will not"
        rf"|stopped) (?:been )?(?:fe?ed\w*|eat\w*|eaten|nurs\w*|drink\w*|drunk|peed?|had a wet))",
        r"\b(?:limp|floppy|blue|unresponsive)\b[^?]{0,40}\b(?:baby|newborn|infant)\b",
        rf"\b{_YOUNG}\b[^?]{{0,80}}\b(?:fever|temperature|3[89](?:\.\d)?|10[0-5])\b"
        rf"|\bfever\b[^?]{{0,40}}\b{_YOUNG}\b",
        rf"\b{_BABY}\b[^?]{{0,80}}\b(?:rash|spots)\b[^?]{{0,40}}\b(?:glass|fade|press\w*|purple)",
        rf"\b{_BABY}\b[^?]{{0,60}}\bno wet (?:diapers?|napp(?:y|ies))",
    ),
)
