"""Scores the exported checkpoint on the held-out tasks by greedy generation, with transformers and its KV cache.

Main idea: this is the reference result that other programs are compared with, so it uses the files that are committed
(weights in bf16, computed in f32) and the chat template, and counts exact matches after trimming white space.

    score.py                    writes scores.json
    score.py --chat             plays the conversations of CHATS and prints them
    score.py --check STATE      greedy replies of the checkpoint equal those of the training model in STATE (rounded to bf16)
"""
import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus

CHATS = (
    ("", ("hello", "my name is Marika", "how are you?", "what is 23 + 48?", "what is my name?", "thanks, bye")),
    ("You are Toro, a friendly assistant.", ("Hi! Who are you?", "Tell me a story about a fox and a bell.", "What is the capital of Japan?")),
    ("", ("I have a dog named Bibo.", "I feel sad today", "Tell me a joke.", "Sort these words: wolf, ant, cup", "Do you remember my pet?",
          "How does the internet work?")),
)


class Chat:
    """Checkpoint and tokenizer with greedy replies."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def ids(self, messages):
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids

    @torch.no_grad()
    def greedy(self, ids, limit):
        """The most likely tokens after `ids` (1, n), one by one through the KV cache, up to and including an end token."""
        ends, cache, out = self.model.generation_config.eos_token_id, None, []
        limit = min(limit, corpus.CONTEXT - ids.shape[1])
        while len(out) < limit and not (out and out[-1] in ends):
            result = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = result.past_key_values
            ids = result.logits[:, -1:].argmax(-1)
            out.append(ids.item())
        return out

    def reply(self, messages, limit=200):
        """(text, number of generated tokens)"""
        out = self.greedy(self.ids(messages), limit)
        return self.tokenizer.decode(out, skip_special_tokens=True).strip(), len(out)


def load_items(folder):
    return [json.loads(line) for line in (folder / "tasks/heldout.jsonl").read_text().splitlines()]


@torch.no_grad()
def perplexity(chat, path, context=512):
    """llama.cpp's protocol: disjoint chunks of `context` tokens, the first replaced by BOS, the second half scored."""
    ids = chat.tokenizer(path.read_text(), add_special_tokens=True, return_tensors="pt").input_ids[0]
    total, count = 0.0, 0
    for start in range(0, len(ids) - context + 1, context):
        chunk = ids[start:start + context].clone()
        chunk[0] = chat.tokenizer.bos_token_id
        logits = chat.model(chunk[None]).logits[0, context // 2:-1]
        total += torch.nn.functional.cross_entropy(logits, chunk[context // 2 + 1:], reduction="sum").item()
        count += context - context // 2 - 1
    return float(torch.tensor(total / count).exp()), count


def score(chat, folder, verbose):
    """The report as a dictionary: right and count per kind, recall by length of prompt, perplexity, time."""
    kinds, lengths, start, tokens = {}, {}, time.time(), 0
    for item in load_items(folder):
        text, n = chat.reply(item["messages"])
        tokens += n
        right = text == item["answer"].strip()
        if verbose and not right:
            print(f"{item['id']}: {item['messages'][-1]['content'][-70:]!r} -> {text!r}, wanted {item['answer']!r}")
        groups = [(kinds, item["kind"])]
        if item["kind"] in ("recall_value", "recall_sentence", "recall_chat", "recite"):
            groups.append((lengths, f"recall, prompt of {item['prompt_tokens'] // 256 * 256}+ tokens"))
        for table, name in groups:
            entry = table.setdefault(name, {"right": 0, "count": 0})
            entry["right"] += right
            entry["count"] += 1
    right, count = (sum(e[k] for e in kinds.values()) for k in ("right", "count"))
    ppl, scored = perplexity(chat, folder / "text/heldout.txt")
    return {"accuracy": round(right / count, 4), "right": right, "count": count, "kinds": kinds, "by_length": dict(sorted(lengths.items())),
            "perplexity": {"file": "text/heldout.txt", "context": 512, "scored_tokens": scored, "value": round(ppl, 4)},
            "generated_tokens": tokens, "seconds": round(time.time() - start, 1), "dtype": "weights bf16, computed in f32"}


def play(chat):
    for system, questions in CHATS:
        messages = [{"role": "system", "content": system}] if system else []
        print(f"--- system: {system or '(none)'}")
        for question in questions:
            messages.append({"role": "user", "content": question})
            text, _ = chat.reply(messages)
            messages.append({"role": "assistant", "content": text})
            print(f"user: {question}\nassistant: {text}")


@torch.no_grad()
def check(chat, folder, state, count=60):
    """Stops with an error unless transformers and the training model agree on greedy continuations of `count` prompts."""
    from model import Mini
    ours = Mini()
    ours.load_state_dict({k: v.to(torch.bfloat16).float() for k, v in torch.load(state, weights_only=True)["model"].items()})
    items = load_items(folder)
    for item in items[::max(1, len(items) // count)]:
        ids = chat.ids(item["messages"])
        out = torch.tensor([chat.greedy(ids, 40)])
        both = torch.cat((ids, out), dim=1)
        best = ours(both[:, :-1]).argmax(-1)[:, ids.shape[1] - 1:]
        gap = (ours(ids) - chat.model(ids).logits).abs().max().item()
        if gap > 2e-3 or not torch.equal(best, out):
            raise SystemExit(f"{item['id']}: the checkpoint and the training model disagree (logits differ by {gap:.2e})")
    print(f"checkpoint equals training model on {len(items[::max(1, len(items) // count)])} prompts")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=corpus.HERE, help="checkpoint, tasks and text")
    parser.add_argument("--chat", action="store_true", help="play the sample conversations")
    parser.add_argument("--check", type=Path, metavar="STATE", help="compare with a state of train.py")
    parser.add_argument("--verbose", action="store_true", help="print every wrong answer")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chat = Chat(args.folder)
    if args.chat:
        play(chat)
    elif args.check:
        check(chat, args.folder, args.check)
    else:
        result = score(chat, args.folder, args.verbose)
        (args.folder / "scores.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
