"""The corpus: turns tasks, small talk and stories into rows of tokens, and writes the tokenizer and held-out files.

Main idea: nothing is stored. Row r of step s is a pure function of (SEED, s, r), so training can stop and resume
anywhere, and every row is a document of its own that starts with the begin token at position 0, as at run time.
Rows are filled with whole conversation turns; what is left over is padding with weight 0.

    corpus.py tokenizer         trains and writes tokenizer.json, tokenizer_config.json
    corpus.py held-out          writes tasks/heldout.jsonl and text/heldout.txt
    corpus.py show -n 5         prints a few rows as text
"""
import argparse
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import smalltalk
import stories
import tasks
from split import draw_side, is_held_out

HERE = Path(__file__).resolve().parent
SEED = 20261124
VOCABULARY = 2048
CONTEXT = 1024
BEGIN, SYSTEM, USER, ASSISTANT, END = SPECIALS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
PROMPT_WEIGHT = 0.1         # of the loss on what the user says, relative to a sentence of the assistant
KINDS_OF_ROW = ("short", "medium", "long")
LENGTHS = {"short": 128, "medium": 256, "long": CONTEXT}


# --- text --------------------------------------------------------------------------------------------------------

def draw_story(rng, held_out=False):
    """One story whose cast lies on the wished side of the split, possibly with a title."""
    cast = draw_side(lambda: stories.draw_cast(rng), lambda c: is_held_out("story", c.key()), held_out)
    title = f"{cast.hero} and the {cast.thing}\n\n" if rng.random() < 0.3 else ""
    return title + stories.tell(cast, rng)


def talk_turns(rng, memory, room):
    """One exchange of small talk or one short task, as (user, assistant) pairs."""
    if rng.random() < 0.7:
        (question, answer), = tasks.draw_short(rng).turns
        return [(smalltalk.roughen(rng, question) if rng.random() < 0.4 else question, answer)]
    question, answer = smalltalk.draw_turn(rng, memory, room > 180)
    return [(smalltalk.roughen(rng, question), answer)]


class Rows:
    """Makes rows of token ids with loss weights from a tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.begin, self.system, self.user, self.assistant, self.end = (tokenizer.token_to_id(t) for t in SPECIALS)

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def turn(self, question, answer):
        """(ids, weights) of one exchange; short answers weigh more per token, so that each answer counts."""
        q, a = self.encode(question), self.encode(answer)
        weight = 2.0 if len(a) <= 4 else 1.0 if len(a) <= 40 else 0.6
        ids = [self.user, *q, self.end, self.assistant, *a, self.end]
        return ids, [0.0] + [PROMPT_WEIGHT] * (len(q) + 1) + [0.0] + [weight] * (len(a) + 1)

    def text_row(self, rng, length):
        """Stories one after the other, each behind a begin token; the last one is cut."""
        ids = []
        while len(ids) < length:
            ids += [self.begin, *self.encode(draw_story(rng))]
        return ids[:length], [1.0] * length

    def chat_row(self, rng, length, first=None):
        """A conversation: `first` turns if given, then small talk and short tasks until the row is full."""
        memory = smalltalk.Memory()
        prompt = None if first else smalltalk.system_prompt(rng, memory)
        ids = [self.begin] + ([self.system, *self.encode(prompt), self.end] if prompt else [])
        weights = [0.0] * len(ids)
        misses = 0
        pending = list(first or [])
        while misses < 3:
            turns, pending = pending or talk_turns(rng, memory, length - len(ids)), []
            for question, answer in turns:
                t, w = self.turn(question, answer)
                if len(ids) + len(t) > length:
                    misses += 1
                    continue
                ids, weights = ids + t, weights + w
        return ids, weights

    def recall_row(self, rng, length):
        """A conversation that opens with a task about a long text."""
        words = int(length * rng.choice((0.66, 0.66, 0.55, 0.4, 0.2))) - 30
        return self.chat_row(rng, length, tasks.draw_long(rng, words).turns)

    def draw(self, rng, kind):
        """One row of `kind` as (ids, weights), not longer than LENGTHS[kind]."""
        length, p = LENGTHS[kind], rng.random()
        if kind == "short":
            return self.chat_row(rng, length)
        if p < 0.1:
            return self.text_row(rng, length)
        if p < (0.65 if kind == "medium" else 0.9):
            return self.recall_row(rng, length)
        return self.chat_row(rng, length)

    def batch(self, step, kind, count, length=None):
        """Arrays ids, targets (int64) and weights (float32), each (count, length), of one step."""
        length = length or LENGTHS[kind]
        ids = np.zeros((count, length + 1), np.int64)
        weights = np.zeros((count, length + 1), np.float32)
        for r in range(count):
            i, w = self.draw(random.Random(f"{SEED}-{step}-{kind}-{r}"), kind)
            ids[r, :len(i)], weights[r, :len(w)] = i, w
        return ids[:, :-1], ids[:, 1:], weights[:, 1:]


# --- tokenizer ---------------------------------------------------------------------------------------------------

def sample_texts(count):
    """Plain strings of everything the corpus can say, for the training of the tokenizer."""
    rng = random.Random(SEED)
    for i in range(count):
        memory = smalltalk.Memory()
        yield draw_story(rng)
        yield smalltalk.system_prompt(rng, memory) or ""
        long_task = tasks.draw_long(rng, 60).turns
        for _ in range(10):
            for pair in talk_turns(rng, memory, 0) + long_task:
                yield from pair
            long_task = []


def train_tokenizer():
    """Byte-level BPE in which every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIALS), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(sample_texts(12000), trainer)
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, begin)])
    return tokenizer


def write_tokenizer(folder):
    tokenizer = train_tokenizer()
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens instead of {VOCABULARY}: enlarge the sample")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END, "pad_token": BEGIN,
        "unk_token": None, "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT, "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_rows(folder=HERE):
    return Rows(Tokenizer.from_file(str(folder / "tokenizer.json")))


# --- held-out files ----------------------------------------------------------------------------------------------

def held_out_items(rows):
    """All scored tasks as dictionaries: id, kind, messages, answer, prompt_tokens."""
    for kind, (_, _, count) in (tasks.SHORT | tasks.LONG).items():
        rng, seen = random.Random(f"{SEED}-held-out-{kind}"), set()
        while len(seen) < count:
            n, words = len(seen), (20, 60, 120, 240, 360, 480, 640)[len(seen) % 7]
            task = tasks.draw_held_out(rng, kind, min(words, tasks.LONGEST.get(kind, words)))
            if task.key in seen:
                continue
            seen.add(task.key)
            messages = [m for q, a in task.turns for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
            size = 2 + sum(2 + len(rows.encode(m["content"])) for m in messages[:-1])
            yield {"id": f"{kind}-{n:03}", "kind": kind, "messages": messages[:-1], "answer": messages[-1]["content"],
                   "prompt_tokens": size}


def write_held_out(folder):
    rows = load_rows(folder)
    items = list(held_out_items(rows))
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks/heldout.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    rng = random.Random(f"{SEED}-held-out-text")
    text = "\n\n".join(draw_story(rng, held_out=True) for _ in range(150))
    (folder / "text").mkdir(exist_ok=True)
    (folder / "text/heldout.txt").write_text(text + "\n")
    longest = max(items, key=lambda i: i["prompt_tokens"])
    print(f"{len(items)} tasks, longest prompt {longest['prompt_tokens']} tokens ({longest['id']}); text {len(text)} bytes")


def show(folder, count):
    rows = load_rows(folder)
    for kind in KINDS_OF_ROW:
        for n in range(count):
            ids, weights = rows.draw(random.Random(f"show-{n}"), kind)
            print(f"--- {kind} {n}: {len(ids)} tokens, {sum(w >= 0.5 for w in weights)} of the assistant or a story")
            print(rows.tokenizer.decode(ids, skip_special_tokens=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("tokenizer", "held-out", "show"))
    parser.add_argument("-n", type=int, default=3, help="rows per kind for show")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the files lie")
    args = parser.parse_args()
    if args.command == "tokenizer":
        write_tokenizer(args.folder)
    elif args.command == "held-out":
        write_held_out(args.folder)
    else:
        show(args.folder, args.n)


if __name__ == "__main__":
    main()
