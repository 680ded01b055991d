#!/usr/bin/env python3
"""Records what the gguf package decodes from random blocks of every type that Bittern reads.

Usage: make_gguf_blocks_golden.py OUT.json. Needs gguf and numpy. Bytes are random; the half-precision scales among them
are then replaced by ordinary numbers, for NaN has no single spelling.
"""

import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Offsets of half-precision numbers in a block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208], "IQ4_NL": [0], "MXFP4": []}


def main() -> None:
    random = np.random.default_rng(7)
    cases = []
    for name, halves in HALVES.items():
        kind = Type[name]
        values, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (4 if values == 32 else 2, size), dtype=np.uint8)
        for at in halves:
            scale = (random.standard_normal(len(blocks)) * 0.01).astype(np.float16)
            blocks[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
        if name == "MXFP4":
            blocks[:, 0] = [0, 1, 127, 140]  # the smallest scale there is, and ordinary ones
        decoded = dequantize(blocks, kind).astype(np.float32)
        cases.append({"type": name, "number": int(kind), "values": values, "blocks": blocks.tobytes().hex(),
                      "decoded": decoded.reshape(-1).view(np.uint32).tolist()})
    with open(sys.argv[1], "w") as file:
        json.dump({"cases": cases}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
