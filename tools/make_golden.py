#!/usr/bin/env python3
"""Records the golden checkpoints of tests/golden/models: tiny random models and the logits transformers gives them.

    python3 -m venv VENV && VENV/bin/pip install -r tools/golden/requirements.txt
    VENV/bin/python tools/make_golden.py [--out tests/golden/models] [--only NAME ...]

Each case of tools/golden/cases.py becomes a folder with config.json, the weights (one safetensors file or several with
an index), generation_config.json where the case has one, and expected.safetensors, which holds for prompt N:

    prompt.N.ids          I32 [T]        the prompt
    prompt.N.logits       F32 [T, vocab] one forward pass over the whole prompt, no cache
    prompt.N.greedy       I32 [16]       greedy continuation through the cache, the prompt fed one token at a time
    prompt.N.step_logits  F32 [T, vocab] only where feeding one token at a time gives other logits: RoPE whose
                                         frequencies depend on the length seen so far (dynamic, longrope)
    prompt.N.generate     I32 [16]       only where greedy continuation after a one-pass prefill differs from `greedy`

All of it is computed in f32 with eager attention from the weights as stored. Prompts are redrawn until every greedy
choice wins by a clear margin, so that rounding cannot flip one. A feature named by the case's `must_matter` must move
the logits. Same versions, same bytes of weights and ids; logits repeat to rounding. It prints one line per case.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden.cases import all_cases  # noqa: E402
from golden.checkpoint import random_prompts, random_weights, write_checkpoint, write_expected  # noqa: E402
from golden.reference import make_reference  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MIN_MARGIN = 3e-3  # of the largest |logit|: thirty times the tolerance of the tests
MIN_DISTINCT = 5  # of 16 greedy ids: a model that repeats one token checks little
MIN_EFFECT = 1e-2  # relative change of the logits that a feature must cause
ATTEMPTS = 200


def relative_error(a, b):
    """||a - b|| / ||b||"""
    return ((a - b).norm() / b.norm()).item()


def margin(chosen_from):
    """Smallest lead of a greedy choice, relative to the largest |logit| of its step."""
    top = chosen_from.topk(2, dim=-1).values
    return ((top[:, 0] - top[:, 1]) / chosen_from.abs().amax(dim=-1)).min().item()


def uniformity(reference, ids):
    """Entropy of attention over that of uniform attention, mean over layers, heads and the later half of the rows."""
    rows = reference.attention(ids)[:, :, len(ids) // 2 :]
    entropy = -(rows * rows.clamp_min(1e-30).log()).sum(-1)
    seen = (rows > 0).sum(-1).clamp_min(2).float()
    return (entropy / seen.log()).mean().item()


def check_features(case, weights, reference, ids):
    """Every override of must_matter has to change the logits of the longest prompt."""
    logits = reference.logits(ids)
    for override in case.must_matter:
        changed = make_reference(case.model_type, {**case.reference_config, **override}).load(weights)
        effect = relative_error(changed.logits(ids), logits)
        if effect < MIN_EFFECT:
            raise SystemExit(f"{case.name}: {override} changes the logits by {effect:.1e} only; choose other shapes")


def record_prompt(reference, ids):
    """The tensors of one prompt, without their prefix, and the margin of its greedy choices."""
    logits = reference.logits(ids)
    step_logits, greedy, chosen_from = reference.decode(ids)
    _, generated, generated_from = reference.decode(ids, chunk=len(ids))
    tensors = {"ids": torch.tensor(ids, dtype=torch.int32), "logits": logits.contiguous()}
    tensors["greedy"] = torch.tensor(greedy, dtype=torch.int32)
    if relative_error(step_logits, logits) > 1e-5:
        tensors["step_logits"] = step_logits.contiguous()
    if generated != greedy:
        tensors["generate"] = torch.tensor(generated, dtype=torch.int32)
    return tensors, min(margin(chosen_from), margin(generated_from))


def record_prompts(case, reference):
    """Draws prompts until all have clear, varied greedy continuations. Returns tensors and the smallest margin."""
    for attempt in range(ATTEMPTS):
        recorded = [record_prompt(reference, ids) for ids in random_prompts(case, attempt)]
        smallest = min(lead for _, lead in recorded)
        distinct = min(len(set(tensors["greedy"].tolist())) for tensors, _ in recorded)
        if smallest > MIN_MARGIN and distinct >= MIN_DISTINCT:
            return [tensors for tensors, _ in recorded], smallest
    raise SystemExit(f"{case.name}: no prompts with clear greedy continuations in {ATTEMPTS} draws; change the seed")


def record_case(case, out):
    """Writes one case and returns its line of the table."""
    reference = make_reference(case.model_type, case.reference_config)
    weights = random_weights(case, reference.shapes())
    reference.load(weights)
    prompts, smallest = record_prompts(case, reference)
    longest = max((tensors["ids"].tolist() for tensors in prompts), key=len)
    check_features(case, weights, reference, longest)
    named = {f"prompt.{i}.{key}": value for i, tensors in enumerate(prompts) for key, value in tensors.items()}
    write_checkpoint(out / case.name, case, weights)
    write_expected(out / case.name, named, f"transformers {transformers.__version__}, f32, eager attention")
    return describe(case, out / case.name, prompts, smallest, uniformity(reference, longest))


def describe(case, folder, prompts, smallest, uniform):
    size = sum(path.stat().st_size for path in folder.iterdir())
    spread = prompts[-1]["logits"].std().item()
    extra = sorted({key for tensors in prompts for key in tensors} - {"ids", "logits", "greedy"})
    lengths = "/".join(str(len(tensors["ids"])) for tensors in prompts)
    columns = [f"{case.name:24}", f"{case.dtype:9}", f"{lengths:9}", f"{size / 1024:7.1f}", f"{spread:6.2f}"]
    return "  ".join([*columns, f"{smallest:8.4f}", f"{uniform:7.2f}", ",".join(extra)])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/golden/models", help="folder of the cases")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="record these cases alone")
    return parser.parse_args()


def select_cases(only):
    cases = all_cases()
    unknown = set(only or []) - {case.name for case in cases}
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}")
    return [case for case in cases if not only or case.name in only]


def main():
    arguments = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print("case                      stored     prompts    KiB     std    margin    uniform  also recorded")
    for case in select_cases(arguments.only):
        print(record_case(case, arguments.out), flush=True)


if __name__ == "__main__":
    main()
