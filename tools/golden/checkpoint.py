"""Random weights and the files of a golden case.

Weights are drawn per tensor from a generator seeded by (case seed, crc32 of the key), so that adding a tensor changes
no other. The scales make attention far from uniform, norms unequal and biases non-zero: a model that ignored any of
them would miss the recorded logits. Writing is deterministic; nothing here runs a model.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SCORE_KEYS = ("q_proj", "k_proj", "qkv", "wqkv")
HEAD_KEYS = ("lm_head", "output")


def _scale(key, shape, tied, gemma):
    if "embed" in key:
        return 0.06 if gemma else 0.35 if tied else 1.0  # Gemma multiplies by sqrt(hidden)
    gain = 1.5 if any(name in key for name in SCORE_KEYS) else 1.2
    gain = 2.5 if key.split(".")[0] in HEAD_KEYS else gain
    return gain / np.sqrt(shape[-1])


def _norm_center(key, gemma):
    if not gemma:
        return 1.0
    return 5.0 if key == "model.norm.weight" else 0.0  # of 1 + w; the last makes up for the small tied head


def _draw(key, shape, seed, tied, gemma):
    generator = np.random.default_rng([seed, zlib.crc32(key.encode())])
    normal = generator.standard_normal(shape)
    if key.endswith(".bias"):
        return 0.3 * normal
    if len(shape) == 1:
        return _norm_center(key, gemma) + 0.2 * normal
    return _scale(key, shape, tied, gemma) * normal


def random_weights(case, shapes):
    """Returns {key: tensor in the case's storage dtype} for {key: shape}."""
    gemma = case.model_type == "gemma2"
    tied = case.config.get("tie_word_embeddings", gemma)
    drawn = {key: _draw(key, shape, case.seed, tied, gemma) for key, shape in shapes.items()}
    return {key: torch.from_numpy(value).to(STORAGE[case.dtype]) for key, value in drawn.items()}


def random_prompts(case, attempt):
    """Returns one list of token ids per prompt length; `attempt` picks another draw."""
    generator = np.random.default_rng([case.seed, attempt, 7])
    return [generator.integers(0, case.config["vocab_size"], size=length).tolist() for length in case.prompts]


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def _write_shards(folder, weights, count):
    """Splits the keys round-robin, so that one layer's tensors lie in several files."""
    keys = sorted(weights)
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    weight_map = {key: names[i % count] for i, key in enumerate(keys)}
    for name in names:
        part = {key: weights[key] for key in keys if weight_map[key] == name}
        save_file(part, folder / name, metadata={"format": "pt"})
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def write_checkpoint(folder, case, weights):
    """Writes config.json, generation_config.json where the case has one, and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model*"):
        old.unlink()
    _write_json(folder / "config.json", case.config)
    if case.generation is not None:
        _write_json(folder / "generation_config.json", case.generation)
    if case.shards > 1:
        _write_shards(folder, weights, case.shards)
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_expected(folder, tensors, reference):
    """Writes expected.safetensors; `reference` names what computed it."""
    save_file(tensors, Path(folder) / "expected.safetensors", metadata={"reference": reference})
