#!/usr/bin/env python3
"""Records what transformers computes for a GGUF file: ids of prompts, last logits and greedy ids.

Usage: make_gguf_golden.py FILE.gguf OUT.json. Needs torch, transformers and gguf. transformers decodes the file by
itself (gguf_file=), undoing the permutation of q and k, so the numbers depend on nothing of Bittern.
"""

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM

GREEDY = 16
PROMPTS = [[1, 15043, 3186], [1, 450, 4996, 17354, 1701, 29916, 432, 17204, 975, 278, 17366, 11203], [1]]


def main() -> None:
    path, out = sys.argv[1], sys.argv[2]
    model = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path) or ".", gguf_file=os.path.basename(path), dtype=torch.float32).double()
    cases = []
    for ids in PROMPTS:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        tokens, greedy = list(ids), []
        for _ in range(GREEDY):
            with torch.no_grad():
                greedy.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
            tokens.append(greedy[-1])
        every = 101  # a sample of the row keeps the file small
        cases.append({"ids": ids, "norm": float(logits.norm()), "every": every,
                      "last_logits": [float(f"{x:.9g}") for x in logits[::every].tolist()], "greedy": greedy})
    with open(out, "w") as file:
        json.dump({"file": os.path.basename(path), "cases": cases}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
