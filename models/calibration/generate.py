#!/usr/bin/env python3
"""Writes text.txt, the calibration text that ships with Bittern: about 170 KB of prose, dialogue, letters, instructions,
questions with answers, tables, numbers, Markdown, JSON, Python, C and SQL.

Main idea: activations differ most by the kind of text, so many kinds alternate, each from small grammars of our own
with many slots, drawn with a fixed seed. It is not a corpus to learn from. `generate.py --check` compares the file.
"""
import json
import random
import sys
from pathlib import Path

SEED = 20261124
BYTES = 170_000
FILE = Path(__file__).resolve().parent / "text.txt"

NAMES = ("Ada Omar Lena Tomas Mira Jun Priya Noah Ines Kofi Sofia Emil Hana Victor Leila Marco Yuki Clara Samir Greta "
         "Anton Rosa Felix Nadia Oscar Wanda Pedro Ivy Malik Edith").split()
PLACES = ("the harbour|the old library|the market square|a village in the hills|the northern station|the botanical garden|"
          "the workshop behind the mill|the school on River Street|an island off the coast|the observatory|the town hall|"
          "a farm near the lake|the museum of clocks|the bakery on the corner|the railway bridge|the valley").split("|")
JOBS = ("engineer|gardener|teacher|sailor|baker|nurse|carpenter|librarian|astronomer|farmer|painter|translator|"
        "mechanic|geologist|violinist|bookkeeper").split("|")
THINGS = ("lantern|compass|notebook|telescope|wooden box|brass key|map of the coast|bicycle|teapot|radio|basket of pears|"
          "violin|letter|pocket watch|microscope|ladder|umbrella|jar of honey|typewriter|kite").split("|")
ADJECTIVES = ("quiet|narrow|bright|ancient|unexpected|careful|heavy|cheerful|ordinary|distant|fragile|patient|rusty|"
              "generous|curious|stubborn|elegant|muddy|temporary|precise").split("|")
WEATHER = ("rain had fallen since dawn|the wind came from the east|snow lay on the roofs|it was the hottest day of the year|"
           "fog covered the road|the sky was clear and pale|a storm was expected before night|the first frost had come").split("|")
VERBS = ("repaired|measured|carried|painted|examined|borrowed|hid|described|forgot|polished|photographed|weighed|"
         "wrapped|returned|compared|labelled").split("|")
FEELINGS = ("relieved|suspicious|proud|a little tired|amused|worried|certain|surprised|grateful|impatient").split("|")
ABSTRACT = ("patience|trade|memory|language|the tides|public health|measurement|friendship|the seasons|electricity|"
            "migration|music|justice|probability|agriculture|navigation").split("|")
REASONS = ("nobody had asked for it|the instructions were incomplete|the bridge was closed|the price had doubled|"
           "it reminded them of home|the battery was empty|two pages were missing|the children were asleep|"
           "the last train had left|the results did not agree").split("|")
SUBSTANCES = "copper|water|granite|olive oil|oxygen|salt|paper|glass|iron|wool|carbon|ice".split("|")
UNITS = "kilograms|litres|metres|hours|degrees|euros|kilometres|pages|watts|tonnes".split("|")
TOPICS = ("storing apples over the winter|sharpening a chisel|planning a short walk|writing a clear report|"
          "cleaning a paint brush|sorting old photographs|baking a plain loaf|learning ten words a day|"
          "choosing a bicycle|preparing for an interview|watering seedlings|backing up files").split("|")
STEPS = ("Gather everything you need before you begin|Read the label twice|Let it rest for {n} minutes|"
         "Write down what you changed and why|Check the result against the first measurement|Ask someone else to look at it|"
         "Throw away whatever is damaged|Repeat the last step until nothing moves|Keep the rest in a dry, dark place|"
         "Start with the smallest piece|Wait until it has cooled to {n} degrees|Mark the date on the lid|"
         "Do not hurry; haste is the usual cause of mistakes|Work from the edge towards the middle").split("|")
FIELDS = "id|name|count|price|city|status|created|weight|active|score|owner|comment".split("|")
FUNCTIONS = "total|average|normalize|find_largest|merge_sorted|count_words|parse_line|moving_sum|clamp|rotate".split("|")


class Writer:
    def __init__(self, rng):
        self.rng = rng

    def pick(self, items):
        return self.rng.choice(items)

    def number(self, high=1000):
        return self.rng.randint(2, high)

    def amount(self):
        return self.pick([str(self.number()), f"{self.number(99)}.{self.number(99):02d}", f"{self.number(90)},{self.rng.randint(0, 999):03d}"])

    def sentence(self):
        p, a, b = self.pick, self.pick(NAMES), self.pick(NAMES)
        return p([
            lambda: f"{a} {p(VERBS)} the {p(ADJECTIVES)} {p(THINGS)} and left it at {p(PLACES)}, because {p(REASONS)}.",
            lambda: f"When {a} arrived at {p(PLACES)}, {p(WEATHER)}, and nobody but {b} was waiting.",
            lambda: f"For {self.number(40)} years the {p(JOBS)} had kept a {p(ADJECTIVES)} {p(THINGS)} that nobody {p(VERBS)}.",
            lambda: f"It was {p(ADJECTIVES)} work, yet {a} was {p(FEELINGS)}: {p(REASONS)}.",
            lambda: f"Of the {self.number(80)} people who lived near {p(PLACES)}, only the {p(JOBS)} knew that {p(REASONS)}.",
            lambda: f"Some say that {p(ABSTRACT)} and {p(ABSTRACT)} have little in common; {a} disagreed.",
            lambda: f"The {p(THINGS)} cost {self.amount()} euros, which was {p(['more', 'less'])} than {b} had expected.",
            lambda: f"Although {p(WEATHER)}, the {p(JOBS)} walked {self.amount()} kilometres to {p(PLACES)}.",
            lambda: f"Nothing about the {p(THINGS)} seemed {p(ADJECTIVES)} until {a}, a {p(JOBS)} by training, {p(VERBS)} it.",
            lambda: f"\"{p(REASONS).capitalize()},\" said {a}, who looked {p(FEELINGS)}.",
            lambda: f"By {self.rng.randint(1, 12)}:{self.rng.randint(0, 59):02d} they had {p(VERBS)} everything except the {p(THINGS)}.",
        ])()

    def prose(self):
        return "\n\n".join(" ".join(self.sentence() for _ in range(self.rng.randint(4, 8))) for _ in range(self.rng.randint(1, 3)))

    def essay(self):
        p, subject, other = self.pick, self.pick(ABSTRACT), self.pick(ABSTRACT)
        year = self.rng.randint(1450, 1990)
        return (f"# On {subject}\n\nWhat do we mean by {subject}? The answer depends on whom one asks. A {p(JOBS)} of {year} would "
                f"have spoken of {other}; a {p(JOBS)} of today speaks of {p(ABSTRACT)}. Three observations may help.\n\n"
                f"First, {subject} is rarely {p(ADJECTIVES)}. Between {year} and {year + self.number(60)} the number of those who "
                f"studied it grew from {self.number(500)} to {self.number(90)},{self.rng.randint(0, 999):03d}, and still {p(REASONS)}. "
                f"Second, it is easily confused with {other}, although one is {p(ADJECTIVES)} and the other {p(ADJECTIVES)}. "
                f"Third, whoever ignores it will sooner or later be {p(FEELINGS)}.\n\n"
                f"None of this proves much. {self.sentence()} {self.sentence()} The reader may decide.")

    def dialogue(self):
        a, b = self.rng.sample(NAMES, 2)
        lines = []
        for _ in range(self.rng.randint(3, 6)):
            thing, place = self.pick(THINGS), self.pick(PLACES)
            lines += self.pick([
                [f"{a}: Have you seen the {thing}?", f"{b}: I left it at {place}. Why?", f"{a}: Because {self.pick(REASONS)}!"],
                [f"{a}: How long will it take?", f"{b}: About {self.number(50)} {self.pick(['minutes', 'hours', 'days'])}, if all goes well."],
                [f"{b}: You sound {self.pick(FEELINGS)}.", f"{a}: I am. {self.sentence()}"],
                [f"{a}: Could you explain {self.pick(ABSTRACT)} to me in one sentence?", f"{b}: No... but I can try in {self.number(9)}."],
                [f"{b}: Shall we meet at {place}?", f"{a}: Yes, at {self.rng.randint(1, 12)} o'clock. Bring the {thing}, please."],
            ])
        return "\n".join(lines)

    def letter(self):
        a, b = self.rng.sample(NAMES, 2)
        return (f"Dear {a},\n\nThank you for your letter of {self.rng.randint(1, 28)} {self.pick(['March', 'June', 'October', 'January'])}. "
                f"{self.sentence()} {self.sentence()} I should be {self.pick(FEELINGS)} to hear whether the {self.pick(THINGS)} has reached you. "
                f"Please send {self.amount()} euros by Friday; the account number is {self.rng.randint(10**9, 10**10)}.\n\n"
                f"Yours sincerely,\n{b}\n\nP.S. {self.sentence()}")

    def howto(self):
        steps = self.rng.sample(STEPS, self.rng.randint(4, 7))
        body = "\n".join(f"{i}. {step.format(n=self.number(60))}." for i, step in enumerate(steps, 1))
        return f"## {self.pick(TOPICS).capitalize()}\n\nYou need a {self.pick(THINGS)}, a {self.pick(THINGS)} and some patience.\n\n{body}\n\n*Note:* {self.sentence()}"

    def questions(self):
        out = []
        for _ in range(self.rng.randint(3, 6)):
            x, y, k = self.number(900), self.number(90), self.rng.randint(2, 9)
            items = sorted(self.rng.sample(NAMES, 5))
            out.append(self.pick([
                f"Q: What is {x} + {y}?\nA: {x} + {y} = {x + y}.",
                f"Q: What is {x} times {k}?\nA: {x} * {k} = {x * k}.",
                f"Q: If one {self.pick(THINGS)} costs {y} euros, what do {k} cost?\nA: {k} x {y} = {k * y} euros.",
                f"Q: Sort by the alphabet: {', '.join(self.rng.sample(items, 5))}.\nA: {', '.join(items)}.",
                f"Q: A train leaves at {k}:15 and needs {y} minutes. When does it arrive?\nA: At {k + (15 + y) // 60}:{(15 + y) % 60:02d}.",
                f"Q: Spell '{items[0]}' backwards.\nA: {items[0][::-1].lower()}.",
                f"Q: Is {x} even or odd?\nA: {'Even' if x % 2 == 0 else 'Odd'}, because {x} = 2 x {x // 2}{'' if x % 2 == 0 else ' + 1'}.",
            ]))
        return "\n\n".join(out)

    def table(self):
        columns = self.rng.sample(SUBSTANCES, 3)
        head = "| sample | " + " | ".join(columns) + " |\n|---|" + "---:|" * 3
        rows = [f"| {self.pick(ADJECTIVES)} {i} | " + " | ".join(self.amount() for _ in columns) + " |" for i in range(1, self.rng.randint(4, 8))]
        return f"Table {self.number(20)}: amounts in {self.pick(UNITS)}\n\n" + "\n".join([head, *rows])

    def record(self):
        values = [self.number(), self.pick(NAMES), self.rng.random() < 0.5, None, round(self.rng.random() * 100, 3), self.pick(PLACES)]
        rows = [{field: self.pick(values) for field in self.rng.sample(FIELDS, 4)} for _ in range(self.rng.randint(2, 4))]
        return json.dumps({"version": self.number(9), "items": rows}, indent=self.pick([None, 2]))

    def csv(self):
        fields = self.rng.sample(FIELDS, 4)
        rows = [",".join([str(self.number()), self.pick(NAMES), self.amount().replace(",", ""), self.pick(["yes", "no"])]) for _ in range(self.rng.randint(5, 12))]
        return "\n".join([",".join(fields), *rows])

    def python(self):
        name, field, n = self.pick(FUNCTIONS), self.pick(FIELDS), self.number(50)
        return self.pick([
            f"def {name}(values, limit={n}):\n    \"\"\"Returns the {field} of all values up to `limit`.\"\"\"\n    result = 0\n"
            f"    for index, value in enumerate(values):\n        if value > limit:\n            continue\n        result += value * (index + 1)\n    return result\n",
            f"class {field.capitalize()}Store:\n    def __init__(self, path):\n        self.path = path\n        self.{field}s = {{}}\n\n"
            f"    def add(self, key, {field}):\n        if key in self.{field}s:\n            raise KeyError(f\"{{key}} is already there\")\n"
            f"        self.{field}s[key] = {field}\n",
            f"import math\n\n\ndef {name}(points):\n    xs = [x for x, _ in points]\n    mean = sum(xs) / len(xs)\n"
            f"    return math.sqrt(sum((x - mean) ** 2 for x in xs) / {n})\n\n\nprint({name}([(1, 2), (3, {n})]))\n",
        ])

    def c(self):
        name, n = self.pick(FUNCTIONS), self.number(64)
        return (f"#include <stdio.h>\n\n/* {self.pick(TOPICS).capitalize()}. */\nstatic int {name}(const int *values, int count) {{\n"
                f"  int best = -{n};\n  for (int i = 0; i < count; ++i) {{\n    if (values[i] > best) best = values[i];\n  }}\n"
                f"  return best;\n}}\n\nint main(void) {{\n  int values[] = {{{', '.join(str(self.number()) for _ in range(6))}}};\n"
                f"  printf(\"%d\\n\", {name}(values, 6));\n  return 0;\n}}\n")

    def sql(self):
        a, b, c = self.rng.sample(FIELDS, 3)
        return (f"SELECT {a}, COUNT(*) AS n, AVG({b}) FROM orders\nWHERE {c} = '{self.pick(NAMES)}' AND {b} > {self.number()}\n"
                f"GROUP BY {a} HAVING n > {self.number(9)} ORDER BY n DESC LIMIT {self.number(50)};")

    def shell(self):
        n, name = self.number(99), self.pick(FIELDS)
        return (f"$ ls -l {name}s/ | head -n {n}\n$ grep -rn \"{self.pick(FUNCTIONS)}\" src/ --include='*.c' | wc -l\n{self.number()}\n"
                f"[2026-0{self.rng.randint(1, 9)}-{self.rng.randint(10, 28)}T{self.rng.randint(10, 23)}:{self.rng.randint(10, 59)}:07Z] "
                f"WARN  {name}: {self.number()} of {self.number()} retries, next in {n} ms (https://example.org/{name}?page={n})")

    def formula(self):
        a, b, c = (self.number(20) for _ in range(3))
        return (f"Let x = {a} and y = {b}. Then x^2 + y^2 = {a * a} + {b * b} = {a * a + b * b}, and (x + y)^2 = {(a + b) ** 2}. "
                f"The difference is 2xy = {2 * a * b}. With c = {c}: {a}x - {c} = {a * a - c}; {a}/{c} \u2248 {a / c:.4f}; \u221a{b} \u2248 {b ** 0.5:.3f}.")

    def words(self):
        return self.pick([
            "Guten Morgen! Wie geht es Ihnen? \u2013 Danke, gut; und Ihnen? Der n\u00e4chste Zug f\u00e4hrt um {n} Uhr.",
            "Bonjour, je voudrais {n} kilos de pommes, s\u2019il vous pla\u00eet. O\u00f9 se trouve la gare ?",
            "\u00bfD\u00f3nde est\u00e1 la biblioteca? Est\u00e1 a {n} metros de aqu\u00ed, junto al mercado.",
            "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u8d70\u8d70\u5427\u3002\u6211\u6709{n}\u672c\u4e66\u3002",
            "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439\u0442\u0435! \u0421\u043a\u043e\u043b\u044c\u043a\u043e \u044d\u0442\u043e \u0441\u0442\u043e\u0438\u0442? {n} \u0440\u0443\u0431\u043b\u0435\u0439.",
        ]).format(n=self.number(60))

    def document(self):
        kinds = [self.prose] * 5 + [self.essay] * 3 + [self.dialogue] * 3 + [self.letter, self.howto, self.howto, self.questions, self.questions,
                 self.table, self.record, self.csv, self.python, self.python, self.c, self.sql, self.shell, self.formula, self.words]
        return self.pick(kinds)()


def text():
    writer = Writer(random.Random(SEED))
    parts, size = [], 0
    while size < BYTES:
        parts.append(writer.document().rstrip() + "\n\n\n")
        size += len(parts[-1].encode())
    return "".join(parts)


def main():
    if "--check" in sys.argv[1:]:
        sys.exit(0 if FILE.read_text(encoding="utf-8") == text() else f"{FILE} is not what this script writes")
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
