#!/usr/bin/env python3
"""Perplexity and KL divergence by another road: a Llama in numpy, all in float64, to check `bittern eval ppl` and `kl`.

It reads safetensors and tokenizer.json by itself, encodes with a byte-pair encoder of its own, runs the network without a
cache and scores by the definitions (llama.cpp's windows, or Hugging Face's strided ones); it shares no code with the
program and needs numpy alone. It knows LlamaForCausalLM, tokenizers like those of models/mini and of Llama 2, and English
text; it is slow.

  quality_reference.py MODEL --data TEXT [--reference MODEL0] [--context 512] [--stride N] [--limit WINDOWS]
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from awq_reference import read_checkpoint  # noqa: E402

GPT2_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


# --- text to tokens ----------------------------------------------------------------------------------------------

def byte_letters() -> dict:
    """GPT-2's spelling of bytes: printable ones stand for themselves, the others for letters from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(plain))
    return letters


class Tokenizer:
    def __init__(self, folder: Path):
        spec = json.loads((folder / "tokenizer.json").read_text())
        self.vocab = spec["model"]["vocab"]
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in spec["model"]["merges"]]
        self.rank = {pair: i for i, pair in enumerate(merges)}
        self.byte_level = "Prepend" not in json.dumps(spec["normalizer"])
        config = json.loads((folder / "tokenizer_config.json").read_text())
        bos = config["bos_token"]
        self.bos = self.vocab.get(bos, next((t["id"] for t in spec["added_tokens"] if t["content"] == bos), None))

    def merge(self, symbols: list) -> list:
        """Byte-pair encoding: the pair of lowest rank is merged everywhere, until no pair is left."""
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            merged, i = [], 0
            while i < len(symbols):
                if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == best:
                    merged.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            symbols = merged
        return symbols

    def encode(self, text: str) -> list:
        """Token ids with BOS in front."""
        if self.byte_level:
            letters = byte_letters()
            pieces = [w for part in re.split(r"([0-9])", text) for w in GPT2_WORDS.findall(part)]
            symbols = [s for w in pieces for s in self.merge([letters[b] for b in w.encode()])]
        else:
            symbols = self.merge(list("\u2581" + text.replace(" ", "\u2581")))
        ids = [self.bos]
        for symbol in symbols:
            ids += [self.vocab[symbol]] if symbol in self.vocab else [self.vocab[f"<0x{b:02X}>"] for b in symbol.encode()]
        return ids


# --- the network -------------------------------------------------------------------------------------------------

class Llama:
    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = {name: array.astype(np.float64) for name, array in read_checkpoint(folder).items()}

    def norm(self, x, name):
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / scale * self.tensors[name + ".weight"]

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T

    def rotate(self, x):
        """Rotary positions on (tokens, heads, width), the halves of a head being the two coordinates."""
        tokens, _, width = x.shape
        angles = np.arange(tokens)[:, None] / self.config["rope_theta"] ** (np.arange(0, width, 2) / width)
        cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
        a, b = x[..., : width // 2], x[..., width // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, layer):
        c, tokens = self.config, len(x)
        heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        width = c.get("head_dim") or c["hidden_size"] // heads
        q = self.rotate(self.linear(x, layer + "q_proj").reshape(tokens, heads, width))
        k = self.rotate(self.linear(x, layer + "k_proj").reshape(tokens, kv_heads, width))
        v = self.linear(x, layer + "v_proj").reshape(tokens, kv_heads, width)
        out = np.empty((tokens, heads, width))
        hidden = np.triu(np.full((tokens, tokens), -np.inf), 1)
        for h in range(heads):
            g = h * kv_heads // heads
            scores = q[:, h] @ k[:, g].T / np.sqrt(width) + hidden
            p = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, g]
        return self.linear(out.reshape(tokens, -1), layer + "o_proj")

    def mlp(self, x, layer):
        gate = self.linear(x, layer + "gate_proj")
        return self.linear(gate / (1 + np.exp(-gate)) * self.linear(x, layer + "up_proj"), layer + "down_proj")

    def hidden_states(self, ids):
        """(tokens, hidden) after the final norm."""
        x = self.tensors["model.embed_tokens.weight"][ids]
        for i in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{i}."
            x = x + self.attention(self.norm(x, name + "input_layernorm"), name + "self_attn.")
            x = x + self.mlp(self.norm(x, name + "post_attention_layernorm"), name + "mlp.")
        return self.norm(x, "model.norm")

    def logits(self, ids):
        head = "model.embed_tokens" if self.config.get("tie_word_embeddings") else "lm_head"
        return self.linear(self.hidden_states(ids), head)

    def log_probabilities(self, ids):
        logits = self.logits(ids)
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


# --- protocols and figures ---------------------------------------------------------------------------------------

def windows(ids, bos, context, stride, limit):
    """(tokens the model sees, tokens of the text there, first scored position) of each window."""
    if stride == 0:
        starts = range(0, len(ids) - context + 1, context)
        found = [([bos] + ids[s + 1 : s + context], ids[s : s + context], context // 2) for s in starts]
    else:
        found, reached = [], 0
        for start in range(0, len(ids), stride):
            end = min(start + context, len(ids))
            first = max(reached, start + 1) - 1 - start
            if first + 1 < end - start:
                found.append((ids[start:end], ids[start:end], first))
            reached = end
            if reached == len(ids):
                break
    return found[:limit] if limit else found


def score(model, reference, ids, bos, context, stride, limit):
    """Columns over the scored positions: NLLs, KL divergence, change of the right token's probability, agreement."""
    rows = []
    for tokens, text, first in windows(ids, bos, context, stride, limit):
        q = model.log_probabilities(tokens)
        p = reference.log_probabilities(tokens) if reference else q
        for i in range(first, len(text) - 1):
            n = text[i + 1]
            kl = (np.exp(p[i]) * (p[i] - q[i])).sum()
            rows.append((-q[i, n], -p[i, n], kl, np.exp(q[i, n]) - np.exp(p[i, n]), p[i].argmax() == q[i].argmax()))
    return np.array(rows, np.float64).T


def figures(nll, base_nll, kl, delta, same) -> dict:
    change = nll - base_nll
    percentiles = lambda x, names: {f"{n:g}": float(np.percentile(x, n)) for n in names}  # noqa: E731
    return {
        "tokens": len(nll),
        "perplexity": float(np.exp(nll.mean())),
        "perplexity_standard_error": float(np.exp(nll.mean()) * nll.std() / np.sqrt(len(nll) - 1)),
        "reference_perplexity": float(np.exp(base_nll.mean())),
        "log_perplexity_ratio": float(change.mean()),
        "kl": float(kl.mean()),
        "kl_standard_error": float(kl.std() / np.sqrt(len(kl) - 1)),
        "max_kl": float(kl.max()),
        "kl_percentiles": percentiles(kl, (99.9, 99, 95, 90, 50, 10, 5, 1)),
        "delta_p": float(delta.mean()),
        "rms_delta_p": float(np.sqrt((delta * delta).mean())),
        "delta_p_percentiles": percentiles(delta, (99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1, 0.1)),
        "same_top": float(same.mean()),
    }


def measure(model: Path, text: str, reference: Path | None = None, context=512, stride=0, limit=0) -> dict:
    tokenizer = Tokenizer(model)
    base = Llama(reference) if reference else None
    return figures(*score(Llama(model), base, tokenizer.encode(text), tokenizer.bos, context, stride, limit))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--stride", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0)
    a = parser.parse_args()
    text = a.data.read_text(encoding="utf-8")
    print(json.dumps(measure(a.model, text, a.reference, a.context, a.stride, a.limit), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
