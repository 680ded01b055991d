"""Tasks with checkable answers: the part of the corpus that accuracy is measured on.

Main idea: a kind of task is one function that draws an instance and names it with a key; the key's hash decides
whether the instance belongs to training or to the held-out tenth, so the two can never meet. An answer is short and
exact: a generated reply counts when it equals the answer after trimming white space.
It knows no tokens; lengths are budgets in words that the caller turns into tokens.
"""
from dataclasses import dataclass, field

import lexicon as lex
import smalltalk
import stories
from split import draw_side, is_held_out


@dataclass
class Task:
    """`turns` are (user, assistant) pairs; the answer that is checked is the last assistant text."""
    kind: str
    key: str
    turns: list = field(default_factory=list)

    def held_out(self):
        return is_held_out(self.kind, self.key)


def ask(kind, key, question, answer):
    return Task(kind, str(key), [(question, str(answer))])


# --- numbers -----------------------------------------------------------------------------------------------------

def add(rng):
    total = rng.randrange(100)
    a = rng.randrange(total + 1)
    b = total - a
    q = rng.choice((f"What is {a} + {b}?", f"{a} + {b} = ?", f"Add {a} and {b}.", f"How much is {a} plus {b}?"))
    return ask("add", (min(a, b), max(a, b)), q, total)


def subtract(rng):
    b, a = sorted((rng.randrange(100), rng.randrange(100)))
    q = rng.choice((f"What is {a} - {b}?", f"{a} - {b} = ?", f"Take {b} away from {a}.", f"How much is {a} minus {b}?"))
    return ask("subtract", (a, b), q, a - b)


def compare(rng):
    numbers = rng.sample(range(1000 if rng.random() < 0.5 else 100), rng.choice((2, 2, 3)))
    word, pick = rng.choice((("larger", max), ("smaller", min)))
    many = {"larger": "largest", "smaller": "smallest"}[word]
    listed = ", ".join(map(str, numbers))
    if len(numbers) == 2:
        q = rng.choice((f"Which is {word}, {numbers[0]} or {numbers[1]}?", f"Which number is {word}: {listed}?"))
    else:
        q = rng.choice((f"Which number is the {many}: {listed}?", f"Find the {many} number: {listed}"))
    return ask("compare", (word, numbers), q, pick(numbers))


def sort_numbers(rng):
    """Numbers of two digits whose first digits differ: what a model of this size learns in its few hours."""
    tens = rng.sample(range(1, 10), rng.choice((3, 3, 4, 4, 5)))
    numbers = [10 * t + rng.randrange(10) for t in tens]
    down = rng.random() < 0.3
    listed = ", ".join(map(str, numbers))
    if down:
        q = rng.choice((f"Sort from largest to smallest: {listed}", f"Put these numbers in falling order: {listed}"))
    else:
        q = rng.choice((f"Sort these numbers: {listed}", f"Sort from smallest to largest: {listed}",
                        f"Put these numbers in order: {listed}"))
    return ask("sort_numbers", (down, numbers), q, ", ".join(map(str, sorted(numbers, reverse=down))))


def convert(rng):
    unit, per, factor = rng.choice(lex.UNITS)
    n = rng.randrange(2, 100 if factor in (10, 100, 1000) else 13)
    q = rng.choice((f"How many {unit} are {n} {per}?", f"Convert {n} {per} to {unit}.", f"{n} {per} are how many {unit}?"))
    return ask("convert", (unit, n), q, f"{n * factor} {unit}")


def count_up(rng):
    a = rng.randrange(0, 80)
    b = a + rng.randrange(5, 16)
    q = rng.choice((f"Count from {a} to {b}.", f"Please count from {a} up to {b}.", f"List the numbers from {a} to {b}."))
    return ask("count_up", (a, b), q, ", ".join(map(str, range(a, b + 1))))


# --- lists and letters -------------------------------------------------------------------------------------------

def sort_words(rng):
    words = rng.sample(lex.LIST_WORDS, rng.choice((3, 3, 4)))
    listed = ", ".join(words)
    q = rng.choice((f"Sort these words: {listed}", f"Put these words in alphabetical order: {listed}",
                    f"Sort alphabetically: {listed}"))
    return ask("sort_words", words, q, ", ".join(sorted(words)))


def reverse_words(rng):
    words = rng.sample(lex.LIST_WORDS, rng.randrange(3, 7))
    listed = ", ".join(words)
    q = rng.choice((f"Reverse this list: {listed}", f"Say these words backwards: {listed}",
                    f"Write this list in reverse order: {listed}"))
    return ask("reverse_words", words, q, ", ".join(reversed(words)))


def reverse_letters(rng):
    letters = [rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(3, 8))]
    if rng.random() < 0.5:
        letters = list(rng.choice(lex.LIST_WORDS + lex.FOODS + lex.PLACES + lex.COLORS))
    listed = " ".join(letters)
    q = rng.choice((f"Reverse these letters: {listed}", f"Spell backwards: {listed}", f"Write in reverse: {listed}"))
    return ask("reverse_letters", listed, q, " ".join(reversed(letters)))


def pick_item(rng):
    words = rng.sample(lex.LIST_WORDS, rng.randrange(3, 7))
    i = rng.randrange(len(words))
    listed = ", ".join(words)
    place = "last" if i == len(words) - 1 and rng.random() < 0.7 else lex.ORDINALS[i]
    q = rng.choice((f"What is the {place} word: {listed}?", f"Tell me the {place} item of this list: {listed}"))
    return ask("pick_item", (place, words), q, words[i])


def count_items(rng):
    words = [rng.choice(lex.LIST_WORDS) for _ in range(rng.randrange(2, 9))]
    q = rng.choice((f"How many words are in this list: {', '.join(words)}?", f"Count the items: {', '.join(words)}"))
    return ask("count_items", words, q, len(words))


def repeat(rng):
    words = [rng.choice(lex.LIST_WORDS + lex.COLORS + lex.PLACES + lex.FOODS) for _ in range(rng.randrange(3, 13))]
    text = " ".join(words)
    return ask("repeat", text, rng.choice((f"Repeat after me: {text}", f"Say this again: {text}")), text)


# --- facts -------------------------------------------------------------------------------------------------------

FACT_FORMS = ("What is {}?", "Tell me {}.", "Do you know {}?", "Can you tell me {}?", "Please name {}.",
              "I want to know {}.", "Name {}.", "Which is {}?", "Hey, what is {}?", "So, what is {}?")


def fact(rng):
    """Held out is a pair of fact and wording: the fact itself is known from other wordings."""
    about = rng.choice(list(lex.FACTS))
    form = rng.choice(FACT_FORMS)
    return ask("fact", (about, form), form.format(about), lex.FACTS[about])


# --- recall from the context -------------------------------------------------------------------------------------

def _filler(rng, words):
    """About `words` words of small sentences."""
    out, n = [], 0
    while n < words:
        out.append(stories.filler_sentence(rng))
        n += out[-1].count(" ") + 1
    return out


def recall_value(rng, words=60, questions=1):
    """Full names stand at random depths of a text; the surname of one person is asked for. More questions: training only."""
    people = rng.sample(lex.NAMES, rng.randrange(2, 4 + min(words, 400) // 60))
    full = [f"{first} {lex.made_up_name(rng)}" for first in people]
    text = [t for t in _filler(rng, words) if not any(first in t for first in people)]
    for name in full:
        text.insert(rng.randrange(len(text) + 1), rng.choice((f"Our guest {name} came by train.", f"The book is by {name}.",
                                                              f"Then {name} sang a song.")))
    head = rng.choice(("Read this text.", "Please read this and remember the names.", "Here are some notes."))
    asked = rng.sample(range(len(full)), min(questions, len(full)))
    forms = ("What is the full name of {}?", "Tell me the full name of {}.", "Which surname does {} have?")
    turns = [(rng.choice(forms).format(people[i]), f"The full name is {full[i]}.") for i in asked]
    turns[0] = (f"{head} {' '.join(text)}\n{turns[0][0]}", turns[0][1])
    return Task("recall_value", full[asked[0]], turns)


def _odd_sentence(rng):
    return (f"the {rng.choice(lex.TRAITS)} {rng.choice(lex.ANIMALS)} {rng.choice(('sold', 'gave', 'showed', 'sent'))} "
            f"{rng.choice(lex.NUMBER_WORDS[2:])} {rng.choice(lex.COLORS)} {rng.choice(lex.OBJECTS)}s to the {rng.choice(lex.JOBS)}")


def recall_sentence(rng, words=60):
    """A sentence to remember, then a text, then the question for the sentence."""
    sentence = _odd_sentence(rng)
    head = rng.choice((f"Remember this sentence: {sentence}.", f"Keep this sentence in mind: {sentence}."))
    tail = rng.choice(("Which sentence did I ask you to remember?", "What was the sentence to remember?"))
    return ask("recall_sentence", sentence, f"{head} {' '.join(_filler(rng, words))}\n{tail}", sentence)


RECITED = sorted(set(lex.LIST_WORDS + lex.COLORS + lex.PLACES + lex.FOODS + lex.JOBS))


def recite(rng, words=0):
    """A long row of different words, other text when there is room, then the wish to hear the words again."""
    row = " ".join(rng.sample(RECITED, rng.randrange(15, 45 if words > 80 else 25)))
    rest = " ".join(_filler(rng, words - 60)) if words > 80 else ""
    rest = f"\nOther news: {rest}" if rest else ""
    q = rng.choice(("Repeat the words.", "Tell me the words again."))
    return ask("recite", row, f"Remember these words: {row}{rest}\n{q}", row)


def story_question(rng, words=0, questions=1):
    """A story and a question about its cast. More questions: training only."""
    cast = stories.draw_cast(rng)
    turns = rng.sample(stories.questions(cast), questions)
    turns[0] = (f"Read this story: {stories.tell(cast, rng)}\n{turns[0][0]}", turns[0][1])
    return Task("story_question", cast.key(), turns)


def recall_chat(rng, words=0):
    """The user tells her name or pet, talks about other things, and asks for it at the end."""
    what = rng.choice(smalltalk.OPEN_TELLABLE)
    memory = smalltalk.Memory()
    told = smalltalk.tell(rng, memory, what, free=True)
    turns = [told]
    while sum(len(u.split()) + len(a.split()) for u, a in turns) < 0.85 * words:
        turns.append(smalltalk.intent(rng, memory))
    turns.append(smalltalk.ask_back(rng, memory, what))
    return Task("recall_chat", smalltalk.told_key(what, memory.known[what]), turns)


# kind -> (function, relative frequency in training, held-out items)
SHORT = {
    "add": (add, 9, 40), "subtract": (subtract, 9, 40), "compare": (compare, 3, 30), "sort_numbers": (sort_numbers, 8, 40),
    "convert": (convert, 9, 40), "count_up": (count_up, 4, 20), "sort_words": (sort_words, 7, 30),
    "reverse_words": (reverse_words, 2, 30), "reverse_letters": (reverse_letters, 2, 30), "pick_item": (pick_item, 2, 30),
    "count_items": (count_items, 1.5, 30), "repeat": (repeat, 2, 20), "fact": (fact, 5, 40),
}
LONG = {
    "recall_value": (recall_value, 5, 40), "recall_sentence": (recall_sentence, 2, 30), "recite": (recite, 4, 30),
    "story_question": (story_question, 4, 30), "recall_chat": (recall_chat, 4, 30),
}


# Words of context a held-out instance may have, for kinds whose own text is long already.
LONGEST = {"story_question": 0}


def _draw(make, held_out):
    return draw_side(make, Task.held_out, held_out)


def draw_short(rng, held_out=False):
    """One task without long context, kinds by their frequency."""
    kinds = list(SHORT)
    kind = rng.choices(kinds, [SHORT[k][1] for k in kinds])[0]
    return _draw(lambda: SHORT[kind][0](rng), held_out)


def draw_long(rng, words):
    """One training task that recalls from about `words` words of context, with several questions where the kind allows it."""
    kinds = list(LONG)
    kind = rng.choices(kinds, [LONG[k][1] for k in kinds])[0]
    more = {"recall_value": {"questions": 6}, "story_question": {"questions": 4}}.get(kind, {})
    return _draw(lambda: LONG[kind][0](rng, words, **more), False)


def draw_held_out(rng, kind, words):
    """One held-out instance of `kind`; `words` is the length of context for the kinds of LONG."""
    if kind in SHORT:
        return _draw(lambda: SHORT[kind][0](rng), True)
    return _draw(lambda: LONG[kind][0](rng, words), True)
