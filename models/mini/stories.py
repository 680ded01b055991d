"""Simple stories: a hero wants something, meets trouble, gets help, and the story ends well.

Main idea: four plots with many interchangeable parts; the parts are chosen first (the `Cast`), then worded,
so a story can be asked about and a held-out story is one whose cast hashes into the held-out tenth.
It produces English of one small style; it does not aim at surprising anybody.
"""
from dataclasses import dataclass

import lexicon as lex


@dataclass(frozen=True)
class Cast:
    """What a story is about. Two stories with the same cast may be worded differently."""
    hero: str
    animal: str
    trait: str
    friend: str
    friend_animal: str
    color: str
    thing: str
    place: str
    other_place: str
    food: str
    weather: str

    def key(self):
        return "|".join(self.__dict__.values())


def draw_cast(rng, animal=None, thing=None):
    """A random cast; `animal` and `thing` fix the hero's kind and the object when a user asked for them."""
    animals = [a for a in rng.sample(lex.ANIMALS, 3) if a != animal]
    hero, friend = lex.person(rng), lex.person(rng)
    place, other = rng.sample(lex.PLACES, 2)
    return Cast(hero, animal or animals[0], rng.choice(lex.TRAITS), friend, animals[1], rng.choice(lex.COLORS),
                thing or rng.choice(lex.OBJECTS), place, other, rng.choice(lex.FOODS), rng.choice(lex.WEATHER))


def _opening(c, rng):
    return rng.choice((
        f"Once upon a time there was a {c.trait} {c.animal} named {c.hero}. {c.hero} lived near the {c.place}.",
        f"{c.hero} was a {c.trait} {c.animal} who lived in a little house by the {c.place}.",
        f"Long ago, a {c.trait} {c.animal} called {c.hero} lived close to the {c.place}.",
        f"In a house near the {c.place} lived {c.hero}, a {c.trait} {c.animal}.",
    ))


def _morning(c, rng):
    return rng.choice((
        f"One {c.weather} morning, {c.hero} woke up early and went for a walk.",
        f"It was a {c.weather} day, and {c.hero} wanted to go outside.",
        f"One day the weather was {c.weather}, and {c.hero} felt like going on a trip.",
    ))


def _lost(c, rng):
    return " ".join((
        f"{c.hero} had a {c.color} {c.thing} and loved it very much.",
        rng.choice((f"But that day the {c.thing} was gone.", f"But on the way home the {c.thing} fell into the grass.")),
        rng.choice((f"{c.hero} looked in the {c.place} and in the {c.other_place}, but could not find it.",
                    f"{c.hero} looked everywhere and began to cry.")),
        f"Then {c.friend} the {c.friend_animal} came by and asked, \"Why are you sad?\"",
        rng.choice((f"\"I lost my {c.color} {c.thing},\" said {c.hero}.", f"\"My {c.thing} is lost,\" said {c.hero}.")),
        f"They looked together, and {c.friend} found the {c.thing} near the {c.other_place}.",
    ))


def _found(c, rng):
    return " ".join((
        f"Near the {c.other_place}, {c.hero} found {lex.article(c.color)} {c.thing}.",
        rng.choice((f"\"Whose {c.thing} is this?\" asked {c.hero}.", f"\"What a nice {c.thing}!\" said {c.hero}.")),
        f"{c.hero} walked on and met {c.friend}, {lex.article(c.friend_animal)} who looked very sad.",
        f"\"I lost my {c.color} {c.thing},\" said {c.friend}.",
        rng.choice((f"{c.hero} gave the {c.thing} back at once.", f"\"Here it is,\" said {c.hero} and gave it back.")),
        rng.choice((f"{c.friend} was so happy that they ate {c.food} together.",
                    f"{c.friend} said thank you and shared some {c.food}.")),
    ))


def _hungry(c, rng):
    return " ".join((
        f"{c.hero} was very hungry, but there was no {c.food} in the house.",
        f"So {c.hero} went to the {c.other_place} to look for some.",
        f"There sat {c.friend} the {c.friend_animal} with a big basket of {c.food}.",
        rng.choice((f"\"May I have some?\" asked {c.hero}.", f"\"Please share your {c.food} with me,\" said {c.hero}.")),
        rng.choice((f"\"Yes, if you help me carry my {c.thing},\" said {c.friend}.",
                    f"\"Of course,\" said {c.friend}, \"but first help me find my {c.thing}.\"")),
        f"{c.hero} helped, and then they ate {c.food} until the sun went down.",
    ))


def _journey(c, rng):
    return " ".join((
        f"{c.hero} wanted to see the {c.other_place}, but the way was long.",
        f"{c.hero} took a {c.color} {c.thing} and some {c.food} and started to walk.",
        rng.choice((f"Soon it became dark, and {c.hero} was afraid.", f"After an hour {c.hero} was lost.")),
        f"A {c.friend_animal} named {c.friend} saw the {c.thing} and came closer.",
        rng.choice((f"\"I know the way,\" said {c.friend}.", f"\"Follow me,\" said {c.friend}.")),
        f"Together they came to the {c.other_place}, and it was beautiful.",
    ))


def _ending(c, rng):
    return rng.choice((
        f"From that day on, {c.hero} and {c.friend} were best friends.",
        f"{c.hero} was happy and thanked {c.friend}. In the evening they all went home.",
        f"{c.hero} learned that it is good to have a friend.",
        f"That night {c.hero} slept well and dreamed of the {c.place}.",
    ))


PLOTS = (_lost, _found, _hungry, _journey)


def tell(cast, rng):
    """Words one story about `cast`: 70 to 120 words."""
    plot = rng.choice(PLOTS)
    return " ".join((_opening(cast, rng), _morning(cast, rng), plot(cast, rng), _ending(cast, rng)))


def questions(c):
    """(question, answer) pairs that every plot answers."""
    return [(f"Who was {lex.article(c.trait)} {c.animal}?", c.hero), (f"What kind of animal was {c.hero}?", lex.article(c.animal)),
            (f"What kind of animal was {c.friend}?", lex.article(c.friend_animal)),
            ("What was the weather like?", c.weather), (f"Where did {c.hero} live?", f"near the {c.place}")]


def filler_sentence(rng):
    """One stand-alone sentence, used to put distance between a planted value and its question."""
    return rng.choice((
        lambda: f"The {rng.choice(lex.ANIMALS)} went to the {rng.choice(lex.PLACES)}.",
        lambda: f"It was {rng.choice(lex.WEATHER)} in the {rng.choice(lex.PLACES)}.",
        lambda: f"{rng.choice(lex.NAMES)} likes {rng.choice(lex.FOODS)} and {rng.choice(lex.HOBBIES)}.",
        lambda: f"The {rng.choice(lex.JOBS)} has {lex.article(rng.choice(lex.COLORS))} {rng.choice(lex.OBJECTS)}.",
        lambda: f"{rng.choice(lex.NAMES)} saw a {rng.choice(lex.TRAITS)} {rng.choice(lex.ANIMALS)}.",
        lambda: f"On {rng.choice(lex.DAYS)} the {rng.choice(lex.JOBS)} ate {rng.choice(lex.FOODS)}.",
    ))()
