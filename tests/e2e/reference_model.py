"""transformers as the reference of a checkpoint: the same ids, the same probabilities as `bittern generate` reports."""

import os

from conftest import MINI, bittern_json

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling a tiny linear takes half a minute

PROMPT = "Once upon a time there was a small fox who wanted to count the stars. Question: what is 12 + 7? Answer:"


def generated(model, *options) -> dict:
    """24 greedy tokens of Bittern with the 100 likeliest alternatives of each, all in f32."""
    report = bittern_json("generate", model, "--raw", "-p", PROMPT, "--logprobs", 100, "--temperature", 0, "--max-tokens", 24,
                          "--ignore-eos", "--kv-cache", "f32", "--compute", "f32", *options)
    return report["samples"][0]


def load(folder, dtype="float32", **settings):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **settings)


def distance(model, sample) -> float:
    """|theirs - ours| / |theirs| over the log-probabilities of a sample: logits up to a constant each step."""
    import torch
    import transformers

    prompt = transformers.AutoTokenizer.from_pretrained(MINI)(PROMPT)["input_ids"]
    with torch.no_grad():
        rows = model(torch.tensor([prompt + sample["token_ids"]])).logits.float().log_softmax(-1)[0, len(prompt) - 1 :]
    off = size = 0.0
    for row, step in zip(rows, sample["logprobs"]):
        theirs = row[[each["id"] for each in step["top"]]]
        ours = torch.tensor([each["logprob"] for each in step["top"]])
        off += float(((theirs - ours) ** 2).sum())
        size += float((theirs**2).sum())
    return (off / size) ** 0.5
