"""Word lists of the corpus: the closed vocabulary every generator draws from.

Main idea: a model of five million weights learns a small world well, so the world is small on purpose.
Names are half common, half made of syllables, so that copying a name it never saw has to be learnt.
This file holds data and two tiny helpers; it builds no sentences.
"""

NAMES = ("Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olivia Paul Rosa Sam Tina Victor "
         "Wendy Max Lucy Oscar Ella Tom Nina Hugo Sara Adam Julia Peter Maria John Alice Bob Carl Dora Eva Frank").split()
SYLLABLES = ("ba be bo da de do fa fi ga go ha jo ka ki ko la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro "
             "sa se si so ta te ti to va vi vo wa za ze zo").split()
CODAS = ["", "", "n", "r", "s", "l", "k", "m", "t"]

ANIMALS = ("fox owl bear cat dog mouse rabbit duck frog horse goat sheep pig hen crow wolf deer otter squirrel turtle "
           "swan bee ant fish lion tiger monkey goose badger heron").split()
COLORS = "red blue green yellow white black brown pink purple orange gray golden".split()
OBJECTS = ("lamp key book box ring coin hat cup bell drum kite ball boat clock map basket spoon shell stone feather "
           "candle mirror ladder blanket bottle button chair table door wheel").split()
FOODS = ("bread cheese apples soup cake honey berries rice pears plums nuts carrots beans corn cookies pie fish "
         "tomatoes grapes noodles").split()
PLACES = ("forest river garden village hill lake farm market castle bridge beach valley island mill meadow cave "
          "harbor school library mountain").split()
WEATHER = "sunny rainy windy cold warm cloudy foggy snowy".split()
TRAITS = "kind brave small clever quiet old young happy shy proud lazy gentle curious hungry".split()
JOBS = "baker farmer teacher doctor sailor miller painter singer hunter tailor king queen".split()
HOBBIES = ("reading painting swimming cooking singing dancing fishing running gardening drawing hiking cycling "
           "chess football music").split()
CITIES = "Paris London Rome Berlin Madrid Vienna Oslo Lisbon Dublin Athens Prague Warsaw Tokyo Cairo".split()
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
ORDINALS = "first second third fourth fifth sixth".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

# Words that the sorting, counting and reversing tasks use; each is one token of the vocabulary after a space.
LIST_WORDS = sorted(ANIMALS[:24] + OBJECTS[:24])

FACTS = {
    "the capital of France": "Paris", "the capital of England": "London", "the capital of Italy": "Rome",
    "the capital of Germany": "Berlin", "the capital of Spain": "Madrid", "the capital of Austria": "Vienna",
    "the capital of Norway": "Oslo", "the capital of Portugal": "Lisbon", "the capital of Ireland": "Dublin",
    "the capital of Greece": "Athens", "the capital of Japan": "Tokyo", "the capital of Egypt": "Cairo",
    "the capital of China": "Beijing", "the capital of Russia": "Moscow", "the capital of Poland": "Warsaw",
    "the capital of Canada": "Ottawa", "the capital of Sweden": "Stockholm", "the capital of Finland": "Helsinki",
    "the capital of Hungary": "Budapest", "the capital of India": "New Delhi",
    "the color of the sky": "blue", "the color of grass": "green", "the color of snow": "white",
    "the color of coal": "black", "the color of a lemon": "yellow", "the color of blood": "red",
    "the opposite of hot": "cold", "the opposite of big": "small", "the opposite of day": "night",
    "the opposite of up": "down", "the opposite of old": "young", "the opposite of fast": "slow",
    "the opposite of happy": "sad", "the opposite of full": "empty", "the opposite of left": "right",
    "the opposite of open": "closed", "the opposite of hard": "soft", "the opposite of early": "late",
    "the baby of a dog": "a puppy", "the baby of a cat": "a kitten", "the baby of a cow": "a calf",
    "the baby of a sheep": "a lamb", "the baby of a horse": "a foal", "the baby of a hen": "a chick",
    "the home of a bee": "a hive", "the home of a bird": "a nest", "the home of a spider": "a web",
    "the largest planet": "Jupiter", "the planet closest to the sun": "Mercury", "the planet we live on": "Earth",
    "the largest ocean": "the Pacific", "the highest mountain": "Mount Everest", "the largest animal": "the blue whale",
    "the fastest land animal": "the cheetah", "the tallest animal": "the giraffe",
    "the number of legs of a spider": "8", "the number of legs of an insect": "6", "the number of legs of a dog": "4",
    "the number of days in a week": "7", "the number of months in a year": "12", "the number of hours in a day": "24",
    "the number of letters in the alphabet": "26", "the number of sides of a triangle": "3",
    "the number of sides of a square": "4", "the number of wheels of a bicycle": "2",
    "the first letter of the alphabet": "A", "the last letter of the alphabet": "Z",
    "the frozen form of water": "ice", "the star closest to Earth": "the sun", "the season after winter": "spring",
    "the season after summer": "autumn",
}
for _i, _day in enumerate(DAYS):
    FACTS[f"the day after {_day}"] = DAYS[(_i + 1) % 7]
    FACTS[f"the day before {_day}"] = DAYS[(_i - 1) % 7]
for _i, _month in enumerate(MONTHS):
    FACTS[f"the month after {_month}"] = MONTHS[(_i + 1) % 12]

# (unit asked for, unit given, factor). Factors repeat across pairs, so a held-out number can be derived.
UNITS = [
    ("centimeters", "meters", 100), ("meters", "kilometers", 1000), ("grams", "kilograms", 1000),
    ("millimeters", "centimeters", 10), ("cents", "dollars", 100), ("years", "centuries", 100),
    ("years", "decades", 10), ("milliliters", "liters", 1000), ("seconds", "minutes", 60), ("minutes", "hours", 60),
    ("days", "weeks", 7), ("inches", "feet", 12), ("months", "years", 12), ("eggs", "dozens", 12),
    ("legs", "spiders", 8), ("arms", "octopuses", 8), ("wheels", "bicycles", 2), ("shoes", "pairs", 2),
    ("feet", "yards", 3), ("sides", "triangles", 3), ("colors", "rainbows", 7),
]


def made_up_name(rng):
    """A pronounceable name of two or three syllables that is unlikely to be in NAMES."""
    body = "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3))))
    return (body + rng.choice(CODAS)).capitalize()


def person(rng):
    """A common name or, half the time, a made-up one."""
    return rng.choice(NAMES) if rng.random() < 0.5 else made_up_name(rng)


def article(word):
    """The word with 'a' or 'an' in front."""
    return ("an " if word[0] in "aeiou" else "a ") + word
