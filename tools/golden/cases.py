"""The table of golden cases: one tiny model per row, its config.json exactly as written to disk.

Every row picks odd shapes (head_dim that is not hidden / heads, widths that no vector register divides, a prime
vocabulary) and one or two features of its architecture. `must_matter` lists changes of the config that have to change
the logits: without it a case whose feature has no effect would pass with the feature missing. Nothing here computes.
"""

from dataclasses import dataclass, field

CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
    "internlm3": "InternLM3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
}


ABSENT = object()  # as a value in a row: config.json has no such key


@dataclass(frozen=True)
class Case:
    """One checkpoint to record.

    name: folder under tests/golden/models, starting with the architecture.
    config: the content of config.json.
    seed: of the weights and the prompts.
    dtype: how the weights are stored; the reference runs on them widened to f32.
    prompts: lengths in tokens.
    shards: number of safetensors files; more than one adds model.safetensors.index.json.
    generation: content of generation_config.json, None leaves the file out.
    equivalent: config for transformers where the pinned version cannot read `config` itself.
    must_matter: overrides of the config, each of which must move the logits of the longest prompt.
    """

    name: str
    config: dict
    seed: int
    dtype: str = "float32"
    prompts: tuple = (1, 9, 21)
    shards: int = 1
    generation: dict | None = None
    equivalent: dict | None = None
    must_matter: tuple = field(default_factory=tuple)

    @property
    def model_type(self):
        return self.config["model_type"]

    @property
    def reference_config(self):
        return self.equivalent or self.config


def _config(model_type, heads, kv_heads, hidden, ffn, vocab=67, layers=2, dtype="float32", **more):
    """config.json with the keys that every architecture shares; ABSENT leaves one out, as older checkpoints do."""
    config = {
        "architectures": [CLASSES[model_type]],
        "model_type": model_type,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": dtype,
    }
    config.update(more)
    return {key: value for key, value in config.items() if value is not ABSENT}


def _llama_cases():
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    yarn = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 24,
        "attention_factor": 1.25,
        "beta_fast": 1.0,
        "beta_slow": 0.2,
    }
    yarn_mscale = {
        "rope_type": "yarn",
        "factor": 6.0,
        "original_max_position_embeddings": 40,
        "mscale": 1.3,
        "mscale_all_dim": 0.6,
        "truncate": False,
    }
    dynamic = {"rope_type": "dynamic", "factor": 3.0}
    no_scaling = {"rope_scaling": None}
    new_style = _config("llama", 4, 2, 32, 54, head_dim=12)
    no_rope = {key: value for key, value in new_style.items() if key != "rope_theta"}
    return [
        Case(
            "llama_plain",
            _config("llama", 4, 2, 40, 62, attention_bias=False, mlp_bias=False, pretraining_tp=1, use_cache=True),
            seed=101,
            generation={"bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 0.6, "top_p": 0.9},
        ),
        Case(
            "llama_defaults",
            _config(
                "llama", 3, ABSENT, 36, 50, vocab=61, rope_theta=ABSENT, tie_word_embeddings=ABSENT, rms_norm_eps=1e-6
            ),
            seed=102,
            dtype="float16",
        ),
        Case("llama_tied", _config("llama", 2, 2, 40, 66, tie_word_embeddings=True), seed=103, prompts=(2, 13)),
        Case(
            "llama_biases",
            _config("llama", 3, 1, 36, 53, vocab=71, head_dim=20, attention_bias=True, mlp_bias=True),
            seed=104,
        ),
        Case(
            "llama_mqa_bf16",
            _config("llama", 5, 1, 40, 92, vocab=73, dtype="bfloat16", head_dim=24, rope_theta=500000.0),
            seed=105,
            dtype="bfloat16",
            generation={"bos_token_id": 1, "eos_token_id": [2, 5], "pad_token_id": 0},
        ),
        Case("llama_sharded", _config("llama", 4, 4, 40, 70, vocab=89, layers=3), seed=106, shards=3, dtype="float16"),
        Case(
            "llama_wide_head",
            _config("llama", 2, 1, 20, 38, head_dim=80, layers=2),
            seed=107,
            dtype="bfloat16",
            prompts=(1, 40),
        ),
        Case(
            "llama_rope_llama3",
            _config("llama", 4, 2, 32, 54, head_dim=16, rope_theta=500.0, rope_scaling=llama3),
            seed=108,
            prompts=(3, 17, 45),
            must_matter=(no_scaling, {"rope_scaling": {**llama3, "high_freq_factor": 2.0}}),
        ),
        Case(
            "llama_rope_linear",
            _config("llama", 3, 1, 36, 60, rope_scaling={"type": "linear", "factor": 2.5}),
            seed=109,
            dtype="float16",
            must_matter=(no_scaling,),
        ),
        Case(
            "llama_rope_dynamic",
            _config("llama", 4, 2, 32, 54, max_position_embeddings=16, rope_theta=100.0, rope_scaling=dynamic),
            seed=110,
            prompts=(4, 13, 29),
            must_matter=(no_scaling, {"rope_scaling": {**dynamic, "factor": 2.0}}),
        ),
        Case(
            "llama_rope_yarn",
            _config("llama", 4, 1, 32, 54, head_dim=16, rope_theta=50.0, rope_scaling=yarn),
            seed=111,
            prompts=(3, 17, 45),
            must_matter=(
                no_scaling,
                {"rope_scaling": {**yarn, "attention_factor": 1.0}},
                {"rope_scaling": {**yarn, "beta_fast": 32.0}},
                {"rope_scaling": {**yarn, "beta_slow": 0.6}},
            ),
        ),
        Case(
            "llama_rope_yarn_mscale",
            _config("llama", 2, 2, 36, 60, head_dim=20, rope_theta=300.0, rope_scaling=yarn_mscale),
            seed=112,
            prompts=(3, 45),
            must_matter=(
                no_scaling,
                {"rope_scaling": {**yarn_mscale, "truncate": True}},
                {"rope_scaling": {**yarn_mscale, "mscale": 0.6}},
            ),
        ),
        Case(
            "llama_rope_parameters",
            {
                **{key: value for key, value in no_rope.items() if key != "torch_dtype"},
                "dtype": "float32",
                "rope_parameters": {"rope_theta": 500.0, **llama3},
            },
            seed=113,
            prompts=(3, 45),
            equivalent={**new_style, "rope_theta": 500.0, "rope_scaling": llama3},
            must_matter=({"rope_theta": 10000.0}, no_scaling),
        ),
    ]


def _qwen2_cases():
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    windowed = _config("qwen2", 4, 2, 32, 42, layers=4, use_sliding_window=True, sliding_window=5, max_window_layers=2)
    return [
        Case(
            "qwen2_untied",
            _config("qwen2", 4, 2, 40, 66, rms_norm_eps=1e-6, rope_theta=1000000.0, use_sliding_window=False),
            seed=201,
            generation={"bos_token_id": 1, "eos_token_id": [2, 3], "repetition_penalty": 1.05, "top_k": 20},
        ),
        Case(
            "qwen2_tied_bf16",
            _config("qwen2", 3, 1, 42, 70, vocab=79, dtype="bfloat16", tie_word_embeddings=True, rms_norm_eps=1e-6),
            seed=202,
            dtype="bfloat16",
        ),
        Case(
            "qwen2_window",
            windowed,
            seed=203,
            must_matter=({"use_sliding_window": False}, {"max_window_layers": 1}, {"sliding_window": 6}),
        ),
        Case(
            "qwen2_window_off",
            _config("qwen2", 2, 2, 32, 44, use_sliding_window=False, sliding_window=4, max_window_layers=0),
            seed=204,
            dtype="float16",
            must_matter=({"use_sliding_window": True},),
        ),
        Case(
            "qwen2_yarn",
            _config("qwen2", 2, 1, 32, 54, rope_theta=1000.0, rope_scaling=yarn),
            seed=205,
            prompts=(3, 41),
            must_matter=({"rope_scaling": None}, {"rope_scaling": {**yarn, "factor": 2.0}}),
        ),
    ]


def _qwen3_cases():
    layer_types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    return [
        Case(
            "qwen3_plain",
            _config("qwen3", 4, 2, 36, 58, head_dim=18, attention_bias=False, rms_norm_eps=1e-6, rope_theta=1000000.0),
            seed=301,
        ),
        Case(
            "qwen3_tied_f16",
            _config("qwen3", 3, 1, 36, 62, vocab=83, head_dim=14, dtype="float16", tie_word_embeddings=True),
            seed=302,
            dtype="float16",
        ),
        Case(
            "qwen3_biases_window",
            _config(
                "qwen3", 4, 4, 28, 34, layers=4, head_dim=10, attention_bias=True,
                use_sliding_window=True, sliding_window=6, max_window_layers=4, layer_types=layer_types,
            ),
            seed=303,
            dtype="float16",
            must_matter=({"sliding_window": 7}, {"layer_types": None}),
        ),
    ]  # fmt: skip


def _internlm_cases():
    dynamic2 = {"type": "dynamic", "factor": 2.0}
    dynamic3 = {"rope_type": "dynamic", "factor": 6.0}
    return [
        Case("internlm2_gqa", _config("internlm2", 6, 2, 36, 60, bias=False, rope_theta=1000000.0), seed=401),
        Case(
            "internlm2_bias_mha",
            _config("internlm2", 3, 3, 42, 58, vocab=71, bias=True, rope_scaling=None, dtype="bfloat16"),
            seed=402,
            dtype="bfloat16",
        ),
        Case(
            "internlm2_dynamic",
            _config(
                "internlm2", 4, 1, 40, 52, bias=False, max_position_embeddings=16, rope_theta=100.0,
                rope_scaling=dynamic2, tie_word_embeddings=True,
            ),
            seed=403,
            prompts=(4, 13, 29),
            must_matter=({"rope_scaling": None}, {"rope_scaling": {**dynamic2, "factor": 4.0}}),
        ),
        Case(
            "internlm2_linear",
            _config("internlm2", 4, 2, 32, 52, bias=False, rope_scaling={"type": "linear", "factor": 2.0}),
            seed=404,
            dtype="bfloat16",
            must_matter=({"rope_scaling": None},),
        ),
        Case(
            "internlm3_dynamic",
            _config(
                "internlm3", 4, 2, 32, 54, bias=False, qkv_bias=False, head_dim=12, max_position_embeddings=16,
                rope_theta=100.0, rope_scaling=dynamic3,
            ),
            seed=451,
            prompts=(4, 13, 29),
            must_matter=({"rope_scaling": None},),
        ),
        Case(
            "internlm3_qkv_bias",
            _config("internlm3", 3, 1, 36, 58, vocab=71, bias=False, qkv_bias=True, head_dim=16),
            seed=452,
            dtype="bfloat16",
        ),
        Case(
            "internlm3_bias",
            _config("internlm3", 4, 4, 32, 50, bias=True, qkv_bias=False, head_dim=10, tie_word_embeddings=True),
            seed=453,
        ),
    ]  # fmt: skip


def _mistral_cases():
    return [
        Case(
            "mistral_window",
            _config("mistral", 4, 2, 40, 66, sliding_window=6),
            seed=501,
            must_matter=({"sliding_window": None}, {"sliding_window": 7}),
        ),
        Case(
            "mistral_full",
            _config("mistral", 3, 1, 44, 58, head_dim=18, sliding_window=None, rope_theta=1000000.0, dtype="bfloat16"),
            seed=502,
            dtype="bfloat16",
        ),
        Case(
            "mistral_window_mha",
            _config("mistral", 3, 3, 36, 50, vocab=59, sliding_window=2, tie_word_embeddings=True),
            seed=503,
            dtype="float16",
            must_matter=({"sliding_window": 3},),
        ),
    ]


def _phi3_cases():
    short = [1.0, 1.05, 1.2, 1.3, 1.6, 2.0]
    long = [1.1, 1.5, 2.2, 3.5, 4.0, 6.0]
    longrope = {"type": "longrope", "short_factor": short, "long_factor": long}
    su = {"type": "su", "short_factor": short, "long_factor": long}
    stretched = {"original_max_position_embeddings": 32, "max_position_embeddings": 128}
    return [
        Case(
            "phi3_plain",
            _config("phi3", 3, 3, 36, 58, pad_token_id=0, sliding_window=None, original_max_position_embeddings=128),
            seed=601,
        ),
        Case(
            "phi3_partial_window",
            _config("phi3", 4, 2, 40, 58, vocab=71, pad_token_id=0, sliding_window=7, partial_rotary_factor=0.6),
            seed=602,
            must_matter=({"sliding_window": None}, {"sliding_window": 8}, {"partial_rotary_factor": 1.0}),
        ),
        Case(
            "phi3_longrope",
            _config("phi3", 3, 1, 36, 50, pad_token_id=0, rope_theta=100.0, rope_scaling=longrope, **stretched),
            seed=603,
            prompts=(1, 15, 37),
            must_matter=({"rope_scaling": None}, {"rope_scaling": {**longrope, "long_factor": short}}),
        ),
        Case(
            "phi3_su_partial",
            _config(
                "phi3", 3, 1, 48, 50, pad_token_id=0, rope_theta=100.0, rope_scaling=su, partial_rotary_factor=0.75,
                tie_word_embeddings=True, dtype="bfloat16", **stretched,
            ),
            seed=604,
            dtype="bfloat16",
            prompts=(5, 14, 40),
            must_matter=({"rope_scaling": {**su, "long_factor": su["short_factor"]}},),
        ),
    ]  # fmt: skip


def _gemma2(heads, kv_heads, hidden, ffn, **more):
    shared = {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": ABSENT,
        "attention_bias": False,
        "cache_implementation": "hybrid",
    }
    return _config("gemma2", heads, kv_heads, hidden, ffn, **{**shared, **more})


def _gemma2_cases():
    caps = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 6.0}
    return [
        Case(
            "gemma2_plain",
            _gemma2(4, 2, 28, 38, layers=4, head_dim=12, query_pre_attn_scalar=9, sliding_window=6, **caps),
            seed=701,
            must_matter=(
                {"sliding_window": 7},
                {"attn_logit_softcapping": None},
                {"final_logit_softcapping": None},
                {"query_pre_attn_scalar": 12},
                {"hidden_activation": "silu"},
            ),
            generation={"bos_token_id": 2, "eos_token_id": [1, 3], "pad_token_id": 0},
        ),
        Case(
            "gemma2_mqa_bf16",
            _gemma2(
                3, 1, 40, 62, vocab=73, layers=3, head_dim=20, query_pre_attn_scalar=20, sliding_window=4,
                dtype="bfloat16", **caps,
            ),
            seed=702,
            dtype="bfloat16",
            must_matter=({"sliding_window": 5},),
        ),
        Case(
            "gemma2_uncapped",
            _gemma2(
                2, 2, 32, 44, head_dim=18, query_pre_attn_scalar=16, sliding_window=64,
                attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True,
            ),
            seed=703,
            must_matter=({"attn_logit_softcapping": 3.0}, {"final_logit_softcapping": 6.0}),
        ),
    ]  # fmt: skip


def all_cases():
    """Every case, in the order they are recorded."""
    return [
        *_llama_cases(),
        *_qwen2_cases(),
        *_qwen3_cases(),
        *_internlm_cases(),
        *_mistral_cases(),
        *_phi3_cases(),
        *_gemma2_cases(),
    ]
