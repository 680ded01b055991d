#!/usr/bin/env python3
"""Prints the table of `make demo` from the JSON reports that scripts/demo.sh wrote: demo_table.py DIR NAME...

Each NAME has NAME.kl.json, NAME.tasks.json and NAME.speed.json. Nothing is measured here.
"batched" counts prompt and generated tokens of the tasks, many sequences at a time; "decode" is one sequence.
"""

import json
import pathlib
import sys


def load(folder: pathlib.Path, name: str, kind: str) -> dict:
    return json.loads((folder / f"{name}.{kind}.json").read_text())


def row(folder: pathlib.Path, name: str) -> list[str]:
    kl = load(folder, name, "kl")["kl"]
    tasks = load(folder, name, "tasks")
    speed = load(folder, name, "speed")
    memory = speed["memory"]
    return [
        name,
        f"{memory['weights'] / 2**20:.2f} MiB",
        f"{memory['kv_cache'] / 2**20:.2f} MiB",
        f"{kl['candidate']['perplexity']:.4f}",
        f"{kl['kl']['mean']:.5f}",
        f"{100 * kl['same_top']['mean']:.2f} %",
        f"{100 * tasks['accuracy']:.1f} %",
        f"{(tasks['prompt_tokens'] + tasks['generated_tokens']) / tasks['seconds']:.0f}",
        f"{speed['decode_tokens_per_second']:.0f}",
    ]


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    header = ["", "weights", "KV, 1 sequence", "perplexity", "KL", "same top", "tasks", "batched tok/s", "decode tok/s"]
    rows = [header] + [row(folder, name) for name in sys.argv[2:]]
    widths = [max(len(r[i]) for r in rows) for i in range(len(header))]
    for r in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(r, widths))))


if __name__ == "__main__":
    main()
