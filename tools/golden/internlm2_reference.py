"""InternLM2 in plain PyTorch, f32: the reference for an architecture that transformers does not ship.

Written from the architecture's definition: a Llama block whose q, k and v live in one matrix `wqkv`. Its rows are
grouped by KV head; a group holds the q_per_kv query heads that share the KV head, then its key, then its value, each
head_dim rows. No cache: a forward pass recomputes the prompt. `to_llama` rewrites the weights for transformers'
LlamaForCausalLM, which make_golden.py uses to check this file.
"""

import torch
from torch.nn.functional import embedding, linear, silu


def shapes(config):
    """{key: shape} of the checkpoint."""
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = hidden // heads
    result = {"model.tok_embeddings.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        result["output.weight"] = (vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        layer = {
            "attention.wqkv.weight": ((heads + 2 * kv_heads) * head_dim, hidden),
            "attention.wo.weight": (hidden, heads * head_dim),
            "feed_forward.w1.weight": (ffn, hidden),
            "feed_forward.w3.weight": (ffn, hidden),
            "feed_forward.w2.weight": (hidden, ffn),
            "attention_norm.weight": (hidden,),
            "ffn_norm.weight": (hidden,),
        }
        if config["bias"]:
            layer["attention.wqkv.bias"] = ((heads + 2 * kv_heads) * head_dim,)
            layer["attention.wo.bias"] = (hidden,)
        result.update({f"model.layers.{i}.{key}": shape for key, shape in layer.items()})
    return result


def split_wqkv(rows, kv_heads, q_per_kv, head_dim):
    """Splits [(q_per_kv + 2) * kv_heads * head_dim, ...] into q, k, v rows in head order."""
    grouped = rows.reshape(kv_heads, q_per_kv + 2, head_dim, *rows.shape[1:])
    parts = grouped[:, :-2], grouped[:, -2], grouped[:, -1]
    return [part.reshape(-1, *rows.shape[1:]) for part in parts]


def rms_norm(x, weight, eps):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rope_angles(config, length):
    """[length, head_dim / 2]; dynamic scaling grows the base with the length of the whole input."""
    dim = config["hidden_size"] // config["num_attention_heads"]
    scaling = config.get("rope_scaling") or {"type": "none"}
    base, positions = config["rope_theta"], torch.arange(length, dtype=torch.float32)
    if scaling["type"] == "linear":
        positions = positions / scaling["factor"]
    if scaling["type"] == "dynamic":
        growth = max(length, config["max_position_embeddings"]) / config["max_position_embeddings"]
        base = base * (scaling["factor"] * growth - (scaling["factor"] - 1)) ** (dim / (dim - 2))
    return torch.outer(positions, 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))


def rotate(x, angles):
    """x [T, heads, head_dim]; the two halves of a head are the pairs."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attention(x, weights, config, angles):
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim, q_per_kv, length = x.shape[-1] // heads, heads // kv_heads, x.shape[0]
    fused = linear(x, weights["attention.wqkv.weight"], weights.get("attention.wqkv.bias"))
    groups = fused.reshape(length, kv_heads, q_per_kv + 2, head_dim)
    q = rotate(groups[:, :, :-2].reshape(length, heads, head_dim), angles)
    k = rotate(groups[:, :, -2], angles).repeat_interleave(q_per_kv, dim=1)
    v = groups[:, :, -1].repeat_interleave(q_per_kv, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / head_dim**0.5
    mask = torch.full((length, length), float("-inf")).triu(1)
    mixed = torch.einsum("hqk,khd->qhd", torch.softmax(scores + mask, dim=-1), v)
    return linear(mixed.reshape(length, -1), weights["attention.wo.weight"], weights.get("attention.wo.bias"))


def feed_forward(x, weights):
    gate, up = linear(x, weights["feed_forward.w1.weight"]), linear(x, weights["feed_forward.w3.weight"])
    return linear(silu(gate) * up, weights["feed_forward.w2.weight"])


def forward(config, weights, ids):
    """Logits [T, vocab] of one prompt."""
    eps, angles = config["rms_norm_eps"], rope_angles(config, len(ids))
    x = embedding(torch.tensor(ids), weights["model.tok_embeddings.weight"])
    for i in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{i}."
        layer = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
        x = x + attention(rms_norm(x, layer["attention_norm.weight"], eps), layer, config, angles)
        x = x + feed_forward(rms_norm(x, layer["ffn_norm.weight"], eps), layer)
    head = weights.get("output.weight", weights["model.tok_embeddings.weight"])
    return linear(rms_norm(x, weights["model.norm.weight"], eps), head)


RENAMED = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "tok_embeddings": "embed_tokens",
}


def to_llama(config, weights):
    """The same model under LlamaForCausalLM's keys, with q, k and v apart."""
    kv_heads = config["num_key_value_heads"]
    q_per_kv = config["num_attention_heads"] // kv_heads
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    result = {}
    for key, value in weights.items():
        if "wqkv" in key:
            for name, part in zip("qkv", split_wqkv(value, kv_heads, q_per_kv, head_dim)):
                result[key.replace("attention.wqkv", f"self_attn.{name}_proj")] = part
            continue
        for old, new in RENAMED.items():
            key = key.replace(old, new)
        result["lm_head.weight" if key == "output.weight" else key] = value
    return result
