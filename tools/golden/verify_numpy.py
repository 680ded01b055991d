#!/usr/bin/env python3
"""Checks the recorded cases with a second implementation: numpy, float64, written from the architectures' definitions.

    python3 tools/golden/verify_numpy.py [CASE ...]     (needs numpy only)

It reads what a loader reads (config.json and the safetensors files, nothing from tools/golden), so it proves that a
case is complete and that the recorded logits are those of the architecture rather than of one library. It prints the
relative error of every prompt and fails above 2e-5. It has no cache: step_logits are checked by giving every position
the RoPE frequencies of the length it was fed at.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

MODELS = Path(__file__).resolve().parent.parent.parent / "tests/golden/models"
LIMIT = 2e-5


# --- files --------------------------------------------------------------------------------------------------------


def read_tensors(path):
    """{key: float64 or int array}; bf16 is widened by hand, numpy has no such type."""
    raw = path.read_bytes()
    header_size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + header_size])
    header.pop("__metadata__", None)
    return {key: _decode(raw[8 + header_size :], entry) for key, entry in header.items()}


def _decode(data, entry):
    begin, end = entry["data_offsets"]
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4"}
    values = np.frombuffer(data[begin:end], dtype=kinds[entry["dtype"]])
    if entry["dtype"] == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    values = values if entry["dtype"] == "I32" else values.astype(np.float64)
    return values.reshape(entry["shape"])


def read_weights(folder):
    weights = {}
    for path in sorted(folder.glob("model*.safetensors")):
        weights.update(read_tensors(path))
    return weights


# --- config -------------------------------------------------------------------------------------------------------


class Spec:
    """What the forward pass needs of config.json, defaults made explicit."""

    def __init__(self, config):
        self.kind = config["model_type"]
        self.hidden, self.layers = config["hidden_size"], config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or self.hidden // self.heads
        self.eps = config["rms_norm_eps"]
        self.max_positions = config["max_position_embeddings"]
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        self.rope = rope
        self.rope_kind = {"su": "longrope"}.get(rope.get("type"), rope.get("rope_type", rope.get("type", "none")))
        self.theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
        self.rotary_dim = int(self.head_dim * config.get("partial_rotary_factor", 1.0))
        self.trained = config.get("original_max_position_embeddings") or self.max_positions
        self.gemma = self.kind == "gemma2"
        self.scale = config.get("query_pre_attn_scalar", self.head_dim) ** -0.5
        self.attention_cap = config.get("attn_logit_softcapping")
        self.final_cap = config.get("final_logit_softcapping")
        self.windows = [self._window(config, layer) for layer in range(self.layers)]

    def _window(self, config, layer):
        window = config.get("sliding_window")
        if config.get("layer_types"):
            return window if config["layer_types"][layer] == "sliding_attention" else None
        if self.kind.startswith("qwen"):
            slides = config.get("use_sliding_window", False) and layer >= config.get("max_window_layers", 28)
            return window if slides else None
        if self.gemma:
            return window if layer % 2 == 0 else None
        return window


# --- RoPE ---------------------------------------------------------------------------------------------------------


def yarn_frequencies(spec, base):
    rope, dim = spec.rope, spec.rotary_dim
    trained = rope.get("original_max_position_embeddings") or spec.max_positions

    def dimension(turns):
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(spec.theta))

    low, high = dimension(rope.get("beta_fast", 32)), dimension(rope.get("beta_slow", 1))
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
    return base / rope["factor"] * ramp + base * (1 - ramp)


def llama3_frequencies(spec, base):
    rope = spec.rope
    turns = rope["original_max_position_embeddings"] * base / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return base * keep + base / rope["factor"] * (1 - keep)


def frequencies(spec, length):
    """[rotary_dim / 2] for an input of `length` tokens."""
    theta, dim = spec.theta, spec.rotary_dim
    if spec.rope_kind == "dynamic":
        factor = spec.rope["factor"]
        growth = max(length, spec.max_positions) / spec.max_positions
        theta = theta * (factor * growth - (factor - 1)) ** (dim / (dim - 2))
    base = theta ** -(np.arange(0, dim, 2) / dim)
    if spec.rope_kind == "linear":
        return base / spec.rope["factor"]
    if spec.rope_kind == "llama3":
        return llama3_frequencies(spec, base)
    if spec.rope_kind == "yarn":
        return yarn_frequencies(spec, base)
    if spec.rope_kind == "longrope":
        return base / np.array(spec.rope["long_factor" if length > spec.trained else "short_factor"])
    return base


def amplitude(spec):
    """Factor of cos and sin."""
    rope = spec.rope
    if spec.rope_kind == "longrope":
        return math.sqrt(1 + math.log(spec.max_positions / spec.trained) / math.log(spec.trained))
    if spec.rope_kind != "yarn":
        return 1.0
    grow = 0.1 * math.log(rope["factor"])
    if "mscale" in rope:
        return (grow * rope["mscale"] + 1) / (grow * rope["mscale_all_dim"] + 1)
    return rope.get("attention_factor", grow + 1)


def rotate(x, angles, spec):
    """x [T, heads, head_dim]; pairs are (i, i + rotary_dim / 2), the rest passes."""
    half = spec.rotary_dim // 2
    cos, sin = np.cos(angles)[:, None] * amplitude(spec), np.sin(angles)[:, None] * amplitude(spec)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


# --- blocks -------------------------------------------------------------------------------------------------------


def linear(x, weights, name):
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def norm(x, weight, spec):
    scaled = x / np.sqrt((x * x).mean(-1, keepdims=True) + spec.eps)
    return scaled * (1 + weight if spec.gemma else weight)


def qkv(x, weights, spec):
    """q [T, heads, head_dim], k and v [T, kv_heads, head_dim], before RoPE."""
    length, heads, kv_heads, dim = len(x), spec.heads, spec.kv_heads, spec.head_dim
    if "attention.wqkv.weight" in weights:
        groups = linear(x, weights, "attention.wqkv").reshape(length, kv_heads, heads // kv_heads + 2, dim)
        return groups[:, :, :-2].reshape(length, heads, dim), groups[:, :, -2], groups[:, :, -1]
    if "self_attn.qkv_proj.weight" in weights:
        rows = linear(x, weights, "self_attn.qkv_proj").reshape(length, -1, dim)
        return rows[:, :heads], rows[:, heads : heads + kv_heads], rows[:, heads + kv_heads :]
    parts = [linear(x, weights, f"self_attn.{name}_proj").reshape(length, -1, dim) for name in "qkv"]
    for i, name in enumerate("qk"):
        if f"self_attn.{name}_norm.weight" in weights:
            parts[i] = norm(parts[i], weights[f"self_attn.{name}_norm.weight"], spec)
    return parts


def allowed(length, window):
    query, key = np.arange(length)[:, None], np.arange(length)[None]
    return (key <= query) & (key > query - (window or length))


def attend(x, weights, spec, angles, window):
    q, k, v = qkv(x, weights, spec)
    q, k = rotate(q, angles, spec), rotate(k, angles, spec)
    k, v = (part.repeat(spec.heads // spec.kv_heads, axis=1) for part in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) * spec.scale
    if spec.attention_cap:
        scores = spec.attention_cap * np.tanh(scores / spec.attention_cap)
    scores = np.where(allowed(len(x), window), scores, -np.inf)
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("hqk,khd->qhd", weight / weight.sum(-1, keepdims=True), v).reshape(len(x), -1)
    return linear(mixed, weights, "attention.wo" if "attention.wo.weight" in weights else "self_attn.o_proj")


def activation(x, spec):
    if spec.gemma:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / (1 + np.exp(-x))


def mlp(x, weights, spec):
    if "mlp.gate_up_proj.weight" in weights:
        gate, up = np.split(linear(x, weights, "mlp.gate_up_proj"), 2, axis=-1)
        return linear(activation(gate, spec) * up, weights, "mlp.down_proj")
    names = ("feed_forward.w1", "feed_forward.w3", "feed_forward.w2")
    if "feed_forward.w1.weight" not in weights:
        names = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    gate, up = (linear(x, weights, name) for name in names[:2])
    return linear(activation(gate, spec) * up, weights, names[2])


def layer(x, weights, spec, angles, window):
    names = ("attention_norm", "ffn_norm") if spec.kind == "internlm2" else ("input_layernorm", "post_attention_layernorm")
    attended = attend(norm(x, weights[f"{names[0]}.weight"], spec), weights, spec, angles, window)
    if not spec.gemma:
        x = x + attended
        return x + mlp(norm(x, weights[f"{names[1]}.weight"], spec), weights, spec)
    x = x + norm(attended, weights["post_attention_layernorm.weight"], spec)
    inner = mlp(norm(x, weights["pre_feedforward_layernorm.weight"], spec), weights, spec)
    return x + norm(inner, weights["post_feedforward_layernorm.weight"], spec)


def forward(spec, weights, ids, angles):
    """Logits [T, vocab]."""
    internlm2 = spec.kind == "internlm2"
    table = weights["model.tok_embeddings.weight" if internlm2 else "model.embed_tokens.weight"]
    x = table[ids] * (math.sqrt(spec.hidden) if spec.gemma else 1.0)
    for i in range(spec.layers):
        prefix = f"model.layers.{i}."
        own = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
        x = layer(x, own, spec, angles, spec.windows[i])
    head = weights.get("output.weight" if internlm2 else "lm_head.weight", table)
    logits = norm(x, weights["model.norm.weight"], spec) @ head.T
    return spec.final_cap * np.tanh(logits / spec.final_cap) if spec.final_cap else logits


# --- checks -------------------------------------------------------------------------------------------------------


def whole_angles(spec, length):
    return np.outer(np.arange(length), frequencies(spec, length))


def step_angles(spec, length):
    return np.stack([position * frequencies(spec, position + 1) for position in range(length)])


def prompt_error(spec, weights, expected, prompt):
    """Largest relative error of the logits recorded for a prompt."""
    ids = expected[f"{prompt}.ids"]
    errors = []
    for key, angles in (("logits", whole_angles), ("step_logits", step_angles)):
        if f"{prompt}.{key}" in expected:
            recorded = expected[f"{prompt}.{key}"]
            ours = forward(spec, weights, ids, angles(spec, len(ids)))
            errors.append(np.linalg.norm(ours - recorded) / np.linalg.norm(recorded))
    return max(errors)


def verify(folder):
    spec, weights = Spec(json.loads((folder / "config.json").read_text())), read_weights(folder)
    expected = read_tensors(folder / "expected.safetensors")
    prompts = sorted({key.rsplit(".", 1)[0] for key in expected})
    errors = [prompt_error(spec, weights, expected, prompt) for prompt in prompts]
    print(f"{folder.name:24}", "  ".join(f"{error:.1e}" for error in errors))
    return max(errors) <= LIMIT


def main():
    chosen = [MODELS / name for name in sys.argv[1:]] or sorted(path for path in MODELS.iterdir() if path.is_dir())
    wrong = [folder.name for folder in chosen if not verify(folder)]
    if wrong:
        raise SystemExit(f"differ from the recorded logits by more than {LIMIT}: {', '.join(wrong)}")
    print(f"{len(chosen)} cases agree")


if __name__ == "__main__":
    main()
