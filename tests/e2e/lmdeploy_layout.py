"""Writes a checkpoint in the layout of LMDeploy's classic workspace (0.1 and 0.2), with numpy alone: an independent
statement of what `bittern` must be able to read. Matrices are stored (in, out); the columns of every q and k head are
interleaved, (half, j) -> (j, half); q, k and v are joined per part; w_qkv, w1 and w3 are split by columns, wo and w2 by
rows; biases of the latter are copied. Elements are 16-bit words that are never interpreted, so any 16-bit type will do.
"""

import json
import pathlib
import shutil
import struct

import numpy as np


def read_words(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file of 16-bit elements, as words."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] in ("BF16", "F16"), entry
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + length + begin : 8 + length + end], np.uint16).reshape(entry["shape"])
    return tensors


def interleave(x: np.ndarray, head_dim: int) -> np.ndarray:
    rows, width = x.shape
    return x.reshape(rows, width // head_dim, 2, head_dim // 2).swapaxes(2, 3).reshape(rows, width)


def write_workspace(checkpoint: pathlib.Path, out: pathlib.Path, parts: int = 1, **settings) -> pathlib.Path:
    """`settings` replace or add lines of config.ini. Returns the folder of the weights."""
    config = json.loads((checkpoint / "config.json").read_text())
    tensors = read_words(checkpoint / "model.safetensors")
    weights = out / "triton_models" / "weights"
    weights.mkdir(parents=True)
    tokenizer = out / "triton_models" / "tokenizer"
    tokenizer.mkdir()
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".jinja", ".model") and file.name not in ("config.json", "scores.json"):
            shutil.copy(file, tokenizer / file.name)

    def save(name: str, array: np.ndarray):
        np.ascontiguousarray(array).tofile(weights / name)

    def split(stem: str, array: np.ndarray, axis: int, extension: str = "weight"):
        for rank, part in enumerate(np.split(array, parts, axis)):
            save(f"{stem}.{rank}.{extension}", part)

    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", config["hidden_size"] // heads)
    vocab = config["vocab_size"]
    padding = -vocab % parts
    embedding = tensors["model.embed_tokens.weight"]
    head = embedding if config["tie_word_embeddings"] else tensors["lm_head.weight"]
    save("tok_embeddings.weight", np.pad(embedding, ((0, padding), (0, 0))))
    save("output.weight", np.pad(head, ((0, padding), (0, 0))))
    save("norm.weight", tensors["model.norm.weight"])
    for i in range(config["num_hidden_layers"]):
        source, target = f"model.layers.{i}.", f"layers.{i}."
        q = interleave(tensors[source + "self_attn.q_proj.weight"].T, head_dim)
        k = interleave(tensors[source + "self_attn.k_proj.weight"].T, head_dim)
        v = tensors[source + "self_attn.v_proj.weight"].T
        joined = [np.split(x, parts, 1) for x in (q, k, v)]
        for rank in range(parts):
            save(f"{target}attention.w_qkv.{rank}.weight", np.concatenate([x[rank] for x in joined], 1))
        split(target + "attention.wo", tensors[source + "self_attn.o_proj.weight"].T, 0)
        split(target + "feed_forward.w1", tensors[source + "mlp.gate_proj.weight"].T, 1)
        split(target + "feed_forward.w3", tensors[source + "mlp.up_proj.weight"].T, 1)
        split(target + "feed_forward.w2", tensors[source + "mlp.down_proj.weight"].T, 0)
        save(target + "attention_norm.weight", tensors[source + "input_layernorm.weight"])
        save(target + "ffn_norm.weight", tensors[source + "post_attention_layernorm.weight"])

    lines = {
        "model_name": "mini", "tensor_para_size": parts, "head_num": heads, "kv_head_num": kv_heads,
        "vocab_size": vocab, "num_layer": config["num_hidden_layers"], "inter_size": config["intermediate_size"],
        "norm_eps": config["rms_norm_eps"], "attn_bias": 0, "start_id": config["bos_token_id"],
        "end_id": config["eos_token_id"], "session_len": config["max_position_embeddings"] + 8,
        "weight_type": "bf16", "rotary_embedding": head_dim, "rope_theta": config["rope_theta"],
        "size_per_head": head_dim, "group_size": 0, "max_batch_size": 64, "max_context_token_num": 1,
        "step_length": 1, "cache_max_entry_count": 0.5, "cache_block_seq_len": 128, "cache_chunk_size": 1,
        "use_context_fmha": 1, "quant_policy": 0, "max_position_embeddings": 0, "rope_scaling_factor": 0.0,
        "use_logn_attn": 0,
    } | settings
    (weights / "config.ini").write_text("[llama]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()))
    return weights
