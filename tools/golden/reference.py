"""Reference forward passes: transformers in f32 with eager attention, one object for every architecture.

A Reference answers two questions about a prompt: the logits of one forward pass over all of it, and the logits and
greedy continuation when its tokens come one at a time through the KV cache. The two differ by rounding alone, except
where RoPE's frequencies depend on the length of the input (dynamic, longrope). InternLM2 and InternLM3 are remote-code
models: they run as LlamaForCausalLM under renamed, de-interleaved weights (see to_llama and InternLm3Reference), and
InternLM2's logits are checked against internlm2_reference.py too. It writes no files.
"""

import copy

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from . import internlm2_reference

GREEDY_TOKENS = 16


def _build(config):
    """A model in f32, eager; from_config leaves its weights to be overwritten."""
    model_config = AutoConfig.for_model(**copy.deepcopy(config))
    return AutoModelForCausalLM.from_config(model_config, dtype=torch.float32, attn_implementation="eager").eval()


class Reference:
    """A model of transformers whose checkpoint keys are transformers' own."""

    def __init__(self, config):
        self.config = config
        self.model = _build(self.model_config())

    def model_config(self):
        return {key: value for key, value in self.config.items() if key not in ("architectures", "torch_dtype")}

    def shapes(self):
        state = {key: tuple(value.shape) for key, value in self.model.state_dict().items()}
        if self.model.config.tie_word_embeddings:
            state.pop("lm_head.weight", None)
        return state

    def translate(self, weights):
        """Checkpoint keys to the model's."""
        return weights

    def load(self, weights):
        state = self.translate({key: value.float() for key, value in weights.items()})
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        self.model.tie_weights()
        return self

    def _fresh(self):
        """Length-dependent RoPE leaves state in the model: every prompt starts from a clean copy."""
        return copy.deepcopy(self.model)

    @torch.no_grad()
    def logits(self, ids):
        """[T, vocab] of one forward pass without a cache."""
        return self._fresh()(torch.tensor([ids]), use_cache=False).logits[0]

    @torch.no_grad()
    def attention(self, ids):
        """Attention probabilities of every layer, [layers, heads, T, T]."""
        out = self._fresh()(torch.tensor([ids]), use_cache=False, output_attentions=True)
        return torch.stack([layer[0] for layer in out.attentions])

    @torch.no_grad()
    def decode(self, ids, chunk=1):
        """Feeds the prompt through the cache `chunk` tokens at a time, then GREEDY_TOKENS greedy steps.

        Returns the logits of the prompt [T, vocab], the greedy ids, and the logits they were chosen from
        [GREEDY_TOKENS, vocab].
        """
        model, cache, rows = self._fresh(), None, []
        for start in range(0, len(ids), chunk):
            out = model(torch.tensor([ids[start : start + chunk]]), past_key_values=cache, use_cache=True)
            cache, rows = out.past_key_values, [*rows, out.logits[0]]
        greedy, chosen_from = [], []
        last = rows[-1][-1]
        for _ in range(GREEDY_TOKENS):
            greedy.append(int(last.argmax()))
            chosen_from.append(last)
            out = model(torch.tensor([[greedy[-1]]]), past_key_values=cache, use_cache=True)
            cache, last = out.past_key_values, out.logits[0, -1]
        return torch.cat(rows), greedy, torch.stack(chosen_from)


class InternLm2Reference(Reference):
    """InternLM2 run as Llama; every forward pass is compared with the independent implementation."""

    def model_config(self):
        config = {**super().model_config(), "model_type": "llama", "attention_bias": self.config["bias"]}
        config.pop("bias")
        return config

    def shapes(self):
        return internlm2_reference.shapes(self.config)

    def translate(self, weights):
        self.weights = weights
        return internlm2_reference.to_llama(self.config, weights)

    def logits(self, ids):
        ours, theirs = internlm2_reference.forward(self.config, self.weights, ids), super().logits(ids)
        error = ((ours - theirs).norm() / theirs.norm()).item()
        assert error < 1e-5, f"the independent InternLM2 differs from its Llama form by {error:.1e}"
        return theirs


class InternLm3Reference(Reference):
    """InternLM3 run as Llama. `qkv_bias` gives q, k, v a bias; `bias` gives one to o and to the three MLP linears.

    Llama has one switch for q, k, v and o, so the biases that the checkpoint lacks are zeros in the model.
    """

    def model_config(self):
        config = {**super().model_config(), "model_type": "llama", "mlp_bias": self.config["bias"]}
        config["attention_bias"] = config.pop("bias") or config.pop("qkv_bias")
        config.pop("qkv_bias", None)
        return config

    def _has(self, key):
        switch = "bias" if "o_proj" in key or "mlp" in key else "qkv_bias"
        return not key.endswith(".bias") or self.config[switch]

    def shapes(self):
        return {key: shape for key, shape in super().shapes().items() if self._has(key)}

    def translate(self, weights):
        zeros = {key: torch.zeros(shape) for key, shape in super().shapes().items() if key.endswith(".bias")}
        return {**zeros, **weights}


REFERENCES = {"internlm2": InternLm2Reference, "internlm3": InternLm3Reference}


def make_reference(model_type, config):
    """The reference for an architecture, with uninitialized weights."""
    return REFERENCES.get(model_type, Reference)(config)
