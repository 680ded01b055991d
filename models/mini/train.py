"""Trains the embedded model from scratch on the CPU and exports it as a Hugging Face checkpoint.

Main idea: a step is two micro-batches, one of short rows and one of medium or (more often towards the end) long rows,
each with a fixed shape so that torch.compile sees three shapes alone; two workers take one each. The learning rate warms up, stays, and falls
linearly to zero over the last part, so the end can be moved while it stays. State is saved every few minutes.

    train.py --steps 2400                 trains, or resumes the run in --run
    train.py --export                     writes the state in --run as model.safetensors next to this file
"""
import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file

import corpus
from model import Mini, MiniConfig
from muon import Muon, add_up

SEED = 20261124
ROWS = {"short": 20, "medium": 9, "long": 2}        # 2560, 2304 and 2048 tokens, about the same work
WARMUP = 40
EVAL_ITEMS = 12                                     # per kind while training


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=corpus.HERE.parents[1] / "build/mini", help="folder of state and log")
    parser.add_argument("--steps", type=int, default=2400, help="planned end")
    parser.add_argument("--decay", type=float, default=0.35, help="last fraction of the steps, in which the rate falls to 0")
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--embed-lr", type=float, default=0.012, help="of AdamW for the embedding")
    parser.add_argument("--norm-lr", type=float, default=0.003, help="of AdamW for the norms")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=2, help="processes; the result is the same but for rounding")
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--save-every", type=float, default=180, help="seconds between saves of the state")
    parser.add_argument("--eval-every", type=int, default=200, help="steps between evaluations")
    parser.add_argument("--no-compile", action="store_true", help="run eagerly (slower, starts at once)")
    parser.add_argument("--export", action="store_true", help="write the checkpoint of the saved state and stop")
    return parser.parse_args()


# --- schedule ----------------------------------------------------------------------------------------------------

def rate(step, args):
    """Factor of the learning rates: warm up, stay, fall linearly to zero."""
    left = (args.steps - step) / max(1.0, args.decay * args.steps)
    return min(1.0, (step + 1) / WARMUP, max(0.0, left))


def second_kind(step, args):
    """Long rows in every eighth step at first, in every third one from a third of the run on."""
    return "long" if step % (8 if step < args.steps / 3 else 3) == 1 else "medium"


def micro_batches(rows, step, args):
    """(kind, ids, targets, weights) of the micro-batches of `step` that this worker has to do."""
    kinds = ("short", second_kind(step, args))
    for kind in kinds if args.workers == 1 else kinds[dist.get_rank():][:1]:
        yield kind, *(torch.from_numpy(a.copy()) for a in rows.batch(step, kind, ROWS[kind]))


# --- state -------------------------------------------------------------------------------------------------------

class Run:
    """Model, optimizers and counters, saved and loaded as one file."""

    def __init__(self, args):
        torch.manual_seed(SEED)
        self.args, self.step, self.tokens, self.seconds = args, 0, 0, 0.0
        self.model = Mini(MiniConfig())
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        norms = [p for p in self.model.parameters() if p.ndim < 2]
        self.muon = Muon(matrices, lr=args.muon_lr, weight_decay=0.1)
        groups = [{"params": [self.model.model.embed_tokens.weight], "lr": args.embed_lr}, {"params": norms, "lr": args.norm_lr}]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self.path = args.run / "state.pt"
        self.loss = self.model.loss if args.no_compile else torch.compile(self.model.loss, dynamic=False)

    def save(self):
        state = {"model": self.model.state_dict(), "muon": self.muon.state_dict(), "adam": self.adam.state_dict(),
                 "step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)

    def load(self):
        if not self.path.exists():
            return False
        state = torch.load(self.path, weights_only=True)
        for part in (self.model, self.muon, self.adam):
            part.load_state_dict(state[{self.model: "model", self.muon: "muon", self.adam: "adam"}[part]])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        return True

    def advance(self, rows):
        """One optimizer step; returns (kind, loss) of this worker's micro-batches."""
        losses = []
        for kind, ids, targets, weights in micro_batches(rows, self.step, self.args):
            loss = self.loss(ids, targets, weights)
            (loss / 2).backward()
            losses.append((kind, loss.item()))
        add_up([p.grad for p in self.model.parameters()])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        groups = self.muon.param_groups + self.adam.param_groups
        for group, lr in zip(groups, (self.args.muon_lr, self.args.embed_lr, self.args.norm_lr)):
            group["lr"] = lr * rate(self.step, self.args)
        for optimizer in (self.muon, self.adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.tokens += sum(ROWS[k] * corpus.LENGTHS[k] for k in ("short", second_kind(self.step, self.args)))
        self.step += 1
        return losses


# --- evaluation while training -----------------------------------------------------------------------------------

def answer_is_greedy(model, rows, item):
    """True when greedy decoding would give the item's answer: each answer token is the most likely one given those before."""
    ids = [rows.begin]
    for message in item["messages"]:
        ids += [rows.tokenizer.token_to_id(f"<|{message['role']}|>"), *rows.encode(message["content"]), rows.end]
    answer = [*rows.encode(item["answer"]), rows.end]
    full = torch.tensor([ids + [rows.assistant] + answer])
    best = model(full[:, :-1])[0, len(ids):].argmax(-1)
    return best.tolist() == answer


@torch.no_grad()
def evaluate(model, rows):
    """(share of right answers per kind, mean loss on held-out stories)."""
    right = {}
    seen = {}
    for line in (corpus.HERE / "tasks/heldout.jsonl").read_text().splitlines():
        item = json.loads(line)
        kind = item["kind"]
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= EVAL_ITEMS:
            right[kind] = right.get(kind, 0) + answer_is_greedy(model, rows, item)
    text = torch.tensor(rows.encode((corpus.HERE / "text/heldout.txt").read_text())[:8 * 512]).view(8, 512)
    text = torch.cat((torch.full((8, 1), rows.begin), text), dim=1)
    loss = model.loss(text[:, :-1], text[:, 1:], torch.ones(8, 512))
    return {k: n / min(EVAL_ITEMS, seen[k]) for k, n in right.items()}, loss.item()


# --- export ------------------------------------------------------------------------------------------------------

def hf_config(c):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": c.vocab_size, "hidden_size": c.hidden,
        "intermediate_size": c.ffn, "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "hidden_act": "silu", "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_theta, "max_position_embeddings": c.context, "tie_word_embeddings": True,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 4, "pad_token_id": 0,
        "torch_dtype": "bfloat16", "use_cache": True,
    }


def export(state, folder):
    """Writes config.json, generation_config.json and model.safetensors (bf16, tied embedding stored once) of a saved state."""
    if not state.exists():
        raise SystemExit(f"{state} does not exist: train first, or name the run's folder with --run")
    tensors = {n: p.to(torch.bfloat16).contiguous() for n, p in torch.load(state, weights_only=True)["model"].items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    generation = {"bos_token_id": 0, "eos_token_id": [4, 0], "pad_token_id": 0, "do_sample": False, "max_new_tokens": 256}
    for name, value in (("config.json", hf_config(MiniConfig())), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")


# --- loop --------------------------------------------------------------------------------------------------------

def note(args, text):
    """One line on the screen and in the log."""
    line = time.strftime("%H:%M:%S ", time.gmtime()) + text
    print(line, flush=True)
    with open(args.run / "train.log", "a") as log:
        log.write(line + "\n")


def report(run, rows):
    right, loss = evaluate(run.model, rows)
    each = " ".join(f"{k}={v:.2f}" for k, v in right.items())
    note(run.args, f"eval step {run.step} tasks {sum(right.values()) / len(right):.3f} story-loss {loss:.4f} {each}")


def progress(run, recent, tokens, seconds):
    means = " ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in recent.items() if v)
    note(run.args, f"step {run.step} tokens {run.tokens / 1e6:.2f}M loss {means} rate {rate(run.step, run.args):.3f} {tokens / seconds:.0f} tok/s")


def train(run, rows, rank):
    args, saved, mark, mark_tokens = run.args, time.time(), time.time(), run.tokens
    recent = {kind: [] for kind in ROWS}
    while run.step < args.steps:
        start = time.time()
        for kind, loss in run.advance(rows):
            recent[kind].append(loss)
        run.seconds += time.time() - start
        if run.step % 20 == 0:
            progress(run, recent, run.tokens - mark_tokens, time.time() - mark)
            recent, mark, mark_tokens = {kind: [] for kind in ROWS}, time.time(), run.tokens
        if rank == 0 and time.time() - saved > args.save_every:
            run.save()
            saved = time.time()
        if rank == args.workers - 1 and run.step % args.eval_every == 0:
            report(run, rows)
    if rank == 0:
        run.save()
        report(run, rows)
        note(args, f"done: {run.tokens} tokens in {run.seconds:.0f} s of training")


def work(rank, args):
    """One worker: with two, the first does the short rows and the second the others, and gradients are added up."""
    torch.set_num_threads(args.threads)
    if args.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{args.run.resolve()}/meet", rank=rank, world_size=args.workers)
    run, rows = Run(args), corpus.load_rows()
    run.load()
    if rank == 0:
        count = sum(p.numel() for p in run.model.parameters())
        note(args, f"from step {run.step} to {args.steps}; {count} parameters; {asdict(run.model.config)}; {vars(args)}")
    train(run, rows, rank)


def main():
    args = parse()
    args.run.mkdir(parents=True, exist_ok=True)
    if args.export:
        export(args.run / "state.pt", corpus.HERE)
    elif args.workers == 1:
        work(0, args)
    else:
        (args.run / "meet").unlink(missing_ok=True)
        mp.spawn(work, (args,), nprocs=args.workers)


if __name__ == "__main__":
    main()
