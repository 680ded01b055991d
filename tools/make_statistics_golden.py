#!/usr/bin/env python3
"""Records what calibration must measure: statistics of the golden checkpoints, taken by hooks in transformers.

    VENV/bin/python tools/make_statistics_golden.py [--only NAME ...]      (environment of tools/make_golden.py)

For each case, all its prompts run one by one through the reference of tools/golden/reference.py; a forward pre-hook on
every linear in a layer sees its input, and the cache of the pass holds K after RoPE and V. Sums are in f64. The result
is tests/golden/statistics/CASE.safetensors with the tensors of Bittern's statistics: "layers.N.input.LINEAR.max",
"layers.N.k.min", ... where LINEAR is the checkpoint's name; linears that a checkpoint fuses share one input.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden.reference import make_reference  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests/golden/models"
OUT = ROOT / "tests/golden/statistics"
# One for each architecture, and the features that move K or an input: MQA, tied, windows, scaled RoPE, partial rotary.
CASES = """llama_plain llama_mqa_bf16 llama_rope_dynamic llama_rope_yarn_mscale mistral_window qwen2_tied_bf16 qwen2_yarn
qwen3_biases_window internlm2_gqa internlm2_dynamic internlm3_qkv_bias phi3_longrope phi3_partial_window gemma2_plain
gemma2_mqa_bf16""".split()

# Name of a linear in the reference -> name in the checkpoint, where they differ.
INTERNLM2 = {
    "self_attn.q_proj": "attention.wqkv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


class Sums:
    """Rows added up by channel."""

    def __init__(self):
        self.rows = []

    def add(self, rows):
        self.rows.append(rows.double())

    def tensors(self, shape):
        rows = torch.cat(self.rows)
        values = {
            "max": rows.amax(0),
            "min": rows.amin(0),
            "absmax": rows.abs().amax(0),
            "mean": rows.mean(0),
            "absmean": rows.abs().mean(0),
            "meansq": rows.square().mean(0),
        }
        return {key: value.float().reshape(shape).contiguous() for key, value in values.items()}


def checkpoint_name(kind, name):
    """Of a linear of the reference; None for one that the checkpoint fuses into another."""
    prefix, _, part = name.partition(".layers.")
    layer, _, part = part.partition(".")
    if kind == "internlm2":
        part = INTERNLM2.get(part)
    return part and f"{prefix}.layers.{layer}.{part}"


@torch.no_grad()
def record(name):
    folder = MODELS / name
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    reference = make_reference(kind, config)
    weights = {}
    for path in sorted(folder.glob("model*.safetensors")):
        weights.update(load_file(path))
    reference.load(weights)
    inputs, keys, values = {}, {}, {}

    def hook(linear):
        return lambda _, args: inputs.setdefault(linear, Sums()).add(args[0].reshape(-1, args[0].shape[-1]))

    expected = load_file(folder / "expected.safetensors")
    prompts = [expected[f"prompt.{i}.ids"].tolist() for i in range(100) if f"prompt.{i}.ids" in expected]
    for ids in prompts:
        model = reference._fresh()
        for module_name, module in model.named_modules():
            linear = checkpoint_name(kind, module_name) if ".layers." in module_name else None
            if isinstance(module, torch.nn.Linear) and linear:
                module.register_forward_pre_hook(hook(linear))
        cache = full_cache(model, ids)
        for layer, (k, v) in enumerate(cache):
            keys.setdefault(layer, Sums()).add(k[0].transpose(0, 1).flatten(1))
            values.setdefault(layer, Sums()).add(v[0].transpose(0, 1).flatten(1))
            shape = (k.shape[1], k.shape[3])
    tensors = {}
    for linear, sums in inputs.items():
        layer = linear.split(".layers.")[1].split(".")[0]
        tensors |= {f"layers.{layer}.input.{linear}.{key}": t for key, t in sums.tensors((-1,)).items()}
    for letter, by_layer in (("k", keys), ("v", values)):
        for layer, sums in by_layer.items():
            tensors |= {f"layers.{layer}.{letter}.{key}": t for key, t in sums.tensors(shape).items()}
    OUT.mkdir(exist_ok=True)
    save_file(tensors, OUT / f"{name}.safetensors", metadata={"prompts": str(len(prompts))})
    print(f"{name}: {len(prompts)} prompts, {len(tensors)} tensors, {(OUT / f'{name}.safetensors').stat().st_size} bytes")


def full_cache(model, ids):
    """[(K, V)] of every layer with all tokens: a plain cache, since one with windows would drop the oldest."""
    from transformers import DynamicCache

    cache = DynamicCache()
    model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
    pairs = [(layer.keys, layer.values) for layer in cache.layers]
    assert all(k.shape[2] == len(ids) for k, _ in pairs), "the cache dropped tokens"
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=CASES, metavar="NAME")
    for name in parser.parse_args().only:
        record(name)


if __name__ == "__main__":
    main()
