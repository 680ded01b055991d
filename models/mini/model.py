"""The network of the embedded model in plain PyTorch: a Llama decoder small enough to train on a laptop.

Main idea: parameter names equal the checkpoint keys of Hugging Face's LlamaForCausalLM, so that export is a cast and a save.
It trains and scores whole sequences; generation with a KV cache is left to the programs that load the checkpoint.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


EMBEDDING_STD = 0.7


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of the network. Every width is a multiple of 128, as the 4-bit kernels like it."""
    vocab_size: int = 2048
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    context: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


class RmsNorm(nn.Module):
    """y = x / rms(x) * weight over the last axis."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps)


def rope_tables(config, length):
    """cos and sin, each (length, head_dim), in the half-split layout of Llama."""
    inverse = config.rope_theta ** (-torch.arange(0, config.head_dim, 2).float() / config.head_dim)
    angle = torch.outer(torch.arange(length).float(), inverse)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Applies RoPE to x (batch, heads, length, head_dim)."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention without biases."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)

    def _split(self, x, heads):
        return x.view(x.shape[0], x.shape[1], heads, self.c.head_dim).transpose(1, 2)

    def forward(self, x, cos, sin):
        c = self.c
        q = rotate(self._split(self.q_proj(x), c.heads), cos, sin)
        k = rotate(self._split(self.k_proj(x), c.kv_heads), cos, sin)
        v = self._split(self.v_proj(x), c.kv_heads)
        repeat = c.heads // c.kv_heads
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RmsNorm(c.hidden, c.norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RmsNorm(c.hidden, c.norm_eps)
        self.mlp = Mlp(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embedding, layers and final norm: the part that checkpoints call `model`."""

    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = RmsNorm(c.hidden, c.norm_eps)
        cos, sin = rope_tables(c, c.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids):
        x, length = self.embed_tokens(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return self.norm(x)


class Mini(nn.Module):
    """The whole model; the output projection is the embedding."""

    def __init__(self, c=MiniConfig()):
        super().__init__()
        self.config = c
        self.model = Trunk(c)
        self.reset()

    def reset(self):
        """Normal weights of standard deviation 1/sqrt(fan in); projections into the residual stream start smaller.

        The embedding starts large, so that the token is not drowned by what the layers add (copying needs it), and the
        last norm small by the same measure, so that the tied output projection starts with logits of about 1.
        """
        for name, p in self.named_parameters():
            if p.ndim < 2:
                continue
            scale = EMBEDDING_STD if "embed" in name else p.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale *= (2 * self.config.layers) ** -0.5
            nn.init.normal_(p, std=scale)
        nn.init.constant_(self.model.norm.weight, 1 / (EMBEDDING_STD * self.config.hidden ** 0.5))

    def forward(self, ids):
        """Logits (batch, length, vocab) of ids (batch, length)."""
        return F.linear(self.model(ids), self.model.embed_tokens.weight)

    def loss(self, ids, targets, weights):
        """Mean cross entropy of `targets` under `weights`, both (batch, length) and already shifted by one."""
        logits = self(ids).float()
        each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        weights = weights.flatten()
        return (each * weights).sum() / weights.sum().clamp_min(1.0)
