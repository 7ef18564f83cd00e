"""Lists English words that tell nouns and verbs in captions apart.

The lists hold the closed classes and the most common other words.

Lists, not a model: captions speak of few things in few ways, and a list needs no download. They were written for this
project with captions of photographs in mind.
"""

from __future__ import annotations

__all__ = [
    "ADJECTIVES",
    "AUXILIARIES",
    "DETERMINERS",
    "FUNCTION_WORDS",
    "IRREGULAR_VERB_FORMS",
    "NOT_ADJECTIVES",
    "NOT_VERBS",
    "PLURALS",
    "PREPOSITIONS",
    "SUBJECTS",
    "VERBS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words("""
    a an the this that these those my your his her its our their some any each every another no both all several many
    few one two three four five six seven eight nine ten eleven twelve dozen
""")

PREPOSITIONS = _words("""
    of in on at by with from to into onto over under above below beside besides behind near next between among around
    across through along against inside outside within without toward towards upon for about atop underneath beneath
    beyond off up down out during after before like as than per via amid alongside throughout past opposite
""")

SUBJECTS = _words("i you he she it we they who which that there someone somebody everyone everybody")

AUXILIARIES = _words("""
    is are was were be been being am isn't aren't wasn't weren't has have had having do does did don't doesn't didn't
    can could will would may might must shall should cannot can't
""")

FUNCTION_WORDS = (
    DETERMINERS
    | PREPOSITIONS
    | SUBJECTS
    | AUXILIARIES
    | _words("""
    and or but nor so yet if while when where why how what whose whom because though although until whether not very
    too also just only even still together away back here now then again apart ahead aside more most less least much
    other others else such same own him them me us himself herself itself themselves something anything nothing
    everything really quite almost nearly already ready maybe perhaps please etc upside nearby indoors outdoors forward
    forwards backward backwards upward upwards sideways overhead downhill uphill
""")
)

ADJECTIVES = _words("""
    red orange yellow green blue purple violet pink brown black white grey gray beige tan golden silver gold dark
    bright pale colorful colourful colored coloured multicolored striped spotted checkered plaid floral
    big large huge giant enormous massive small little tiny mini miniature long short tall high low wide narrow thick
    thin fat skinny slim deep shallow flat steep round square rectangular circular oval curved straight
    old young new ancient antique vintage modern fresh elderly adult male female teenage
    good bad nice beautiful pretty cute lovely handsome ugly fancy plain simple elegant gorgeous
    happy sad angry funny silly serious lone lonely alone asleep awake busy lazy sleepy hungry playful curious proud
    clean dirty messy neat tidy dusty muddy wet dry damp icy snowy rainy sunny cloudy foggy misty stormy windy
    hot cold warm cool frozen raw ripe rotten sweet sour salty spicy delicious tasty hard soft smooth rough fluffy furry
    hairy shaggy bushy curly bald bare barren blank clear empty full open closed shut broken whole half double single
    wooden metallic woolen rusty shiny transparent
    public private urban rural wild domestic tropical coastal rocky sandy grassy hilly wooded leafy lush
    different various numerous assorted separate similar identical multiple certain main major minor
    left right upper lower inner outer central far distant close first second third
    last final early late quick fast slow heavy lightweight loud quiet calm strong weak sharp blunt free safe
    dangerous rich poor cheap expensive electric electronic digital manual national local foreign
    american european asian african chinese japanese english french german italian indian british western eastern
    northern southern blond blonde brunette sized able unable
    visible unusual strange odd weird normal typical ordinary special popular famous historic medieval royal
    commercial residential industrial outdoor indoor wintry festive cozy comfortable crowded dense
    sparse vast decorative ornate nude naked topless barefoot pregnant blurry fuzzy
""")

# base forms; "sits", "sitting" and "parked" follow from spelling
VERBS = _words("""
    sit stand walk run ride drive fly swim jump leap climb crawl lie lay lean rest sleep eat drink chew bite graze
    feed hold carry pull push throw toss catch hit kick swing serve play perform practice compete race skate ski
    surf sail paddle hike jog dance sing talk speak chat look watch stare gaze glance smile laugh cry wave point
    reach grab touch pet hug kiss lick wear dress display show feature contain include cover surround fill decorate
    pack load stack pile hang park wait stop turn move travel pass cross enter leave arrive approach follow chase
    lead guide cook bake prepare cut slice chop pour mix stir grill fry boil wash clean brush comb shave dry wipe
    sweep paint draw write read type use work fix repair build make take put place set pose stretch bend kneel
    crouch squat perch float drift roll slide skateboard snowboard skydive pedal steer board land hover soar dive
    splash spray shine glow reflect face overlook sprawl relax enjoy celebrate gather share sell buy shop order open
    close attach connect lift raise drop balance bounce tie wrap light blow burn smoke herd milk shear groom saddle
    roam wander stroll march parade cuddle snuggle nap yawn sniff bark dig hunt fish peek peer hide seek try attempt
    begin start finish continue get go come give help keep let live grow bloom stick protrude emerge tilt crash
    collide crumble lounge socialize blend scatter spread divide separate illuminate frame mount pitch consist snack
    bike cycle seat situate locate position arrange assemble listen learn teach study inspect examine observe
    photograph film record capture depict shake spin twist flip grind skid zoom speed drag tow haul deliver plow
    rake shovel plant pick harvest sprinkle garnish dip scoop swallow sip taste smell hear feel see think know want
    need love seem appear become remain stay
""")

IRREGULAR_VERB_FORMS = _words("""
    sat stood rode ridden drove driven flew flown swam ran ate eaten drank held caught threw thrown wore worn made took
    taken lain laid hung built kept gave given got gotten went gone came brought sold bought shown seen saw written
    wrote blown grown torn bent lit fed led slept lying tying dying
""")

# what looks like a form of a verb and is a thing
NOT_VERBS = _words("""
    building buildings ceiling painting paintings clothing wedding evening morning string king ring thing things wing
    wings swing railing awning lightning spring sibling earring earrings frosting icing stuffing topping toppings
    filling wiring lettering paneling siding flooring landing crossing bedding pudding herring duckling seedling
    plumbing housing parking bed shed seed weed reed sled hundred watershed bobsled skiing snowboarding surfing
    bus glass grass dress moss boss mattress class chess canvas christmas gas lens cactus walrus
""")

# what is spelled like an adverb and is a thing
NOT_ADJECTIVES = _words("family fly butterfly dragonfly lily belly jelly assembly monopoly bully trolley holly")

PLURALS = _words("people men women children sheep geese deer cattle police fish zebra feet mice")
