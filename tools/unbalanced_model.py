#!/usr/bin/env python3
"""Writes a copy of a checkpoint whose channels differ in size, and which computes the same: what is multiplied into one
weight is divided out of the next, by powers of two, so that no bit of bf16 is lost. Large models grow such channels by
themselves (Qwen2's K has them); here they show on a small one what quantization makes of them.

  unbalanced_model.py k    POWER OUT [MODEL]   two channels of every K head times 2^POWER, Q's as much smaller
  unbalanced_model.py down POWER OUT [MODEL]   every 16th channel of the MLP times 2^POWER, down_proj's as much smaller

MODEL is a directory with one model.safetensors in bf16 and separate projections (models/mini). It needs numpy alone.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np

MINI = Path(__file__).resolve().parents[1] / "models" / "mini"


class Bf16File:
    """The tensors of a safetensors file, multiplied in place: a power of two is added to the exponents."""

    def __init__(self, path: Path):
        self.path, self.bytes = path, bytearray(path.read_bytes())
        (length,) = struct.unpack("<Q", self.bytes[:8])
        self.header, self.begin = json.loads(self.bytes[8 : 8 + length]), 8 + length

    def scale(self, name: str, rows, columns, power: int) -> None:
        entry = self.header[name]
        if entry["dtype"] != "BF16":
            sys.exit(f"{name} is {entry['dtype']}, this needs BF16")
        begin, end = (self.begin + offset for offset in entry["data_offsets"])
        values = np.frombuffer(self.bytes, "<u2", (end - begin) // 2, begin).reshape(entry["shape"])
        part = values[rows, columns]
        exponent = ((part >> 7) & 0xFF).astype(np.int32)
        if np.any((exponent > 0) & ((exponent + power < 1) | (exponent + power > 254))):
            sys.exit(f"{name}: 2^{power} is beyond what bf16 holds")
        values[rows, columns] = np.where(exponent > 0, part + np.int32(power * 128), 0).astype("<u2")

    def save(self) -> None:
        self.path.write_bytes(self.bytes)


def k_outliers(file: Bf16File, config: dict, layer: str, power: int) -> None:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    pair = np.array([5, 5 + width // 2])  # RoPE rotates these two together
    for head in range(kv_heads):
        file.scale(layer + "self_attn.k_proj.weight", head * width + pair, slice(None), power)
    for head in range(heads):
        file.scale(layer + "self_attn.q_proj.weight", head * width + pair, slice(None), -power)


def down_channels(file: Bf16File, config: dict, layer: str, power: int) -> None:
    channels = np.arange(0, config["intermediate_size"], 16)
    file.scale(layer + "mlp.up_proj.weight", channels, slice(None), power)
    file.scale(layer + "mlp.down_proj.weight", slice(None), channels, -power)


KINDS = {"k": k_outliers, "down": down_channels}


def unbalance(kind: str, power: int, out: Path, model: Path = MINI) -> Path:
    out.mkdir(parents=True)
    for file in [*model.glob("*.json"), model / "model.safetensors"]:
        shutil.copy(file, out)
    config = json.loads((out / "config.json").read_text())
    file = Bf16File(out / "model.safetensors")
    for layer in range(config["num_hidden_layers"]):
        KINDS[kind](file, config, f"model.layers.{layer}.", power)
    file.save()
    return out


def main() -> None:
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    unbalance(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), *map(Path, sys.argv[4:]))


if __name__ == "__main__":
    main()
