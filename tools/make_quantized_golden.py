#!/usr/bin/env python3
"""Records tests/golden/quantized: tiny quantized models and the logits transformers gives their decoded weights.

compressed-tensors models are stored by that package; those named after a package, by that package's own code
(package_quantizers.py); other GPTQ and fp8 models here, bit by bit as their formats say, with numpy and torch's own fp8.
Needs torch, transformers, safetensors and compressed-tensors, and what the cases ask for.

  make_quantized_golden.py [DIRECTORY [CASE ...]]
"""

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden.checkpoint import random_weights, write_expected  # noqa: E402
from golden.reference import make_reference  # noqa: E402
from make_golden import record_prompts  # noqa: E402
import package_quantizers as packages  # noqa: E402


# --- how one linear is stored: weight f32 (out, in) -> ({part: tensor}, decoded f32 (out, in)) ---


def bit_stream(fields: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned fields (count, streams) -> i32 words (count * bits / 32, streams), least significant bit first."""
    planes = (fields[:, None, :] >> np.arange(bits)[None, :, None]) & 1
    stream = planes.reshape(-1, 32, fields.shape[1]).astype(np.uint64)
    return (stream << np.arange(32, dtype=np.uint64)[None, :, None]).sum(axis=1).astype(np.uint32).view(np.int32)


def gptq(weight, bits, group, symmetric, act_order, version):
    w = weight.double().numpy()
    out, inputs = w.shape
    order = np.random.default_rng(out + inputs).permutation(inputs) if act_order else np.arange(inputs)
    g_idx = np.empty(inputs, dtype=np.int32)
    g_idx[order] = np.arange(inputs) // group
    levels, groups = 2**bits - 1, inputs // group
    scales, zeros = np.empty((groups, out), np.float16), np.empty((groups, out), np.int64)
    for g in range(groups):
        part = w[:, g_idx == g]
        lo, hi = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
        scales[g] = (2 * np.maximum(-lo, hi) if symmetric else hi - lo) / levels
        zeros[g] = 2 ** (bits - 1) if symmetric else np.clip(np.round(-lo / scales[g].astype(np.float64)), 1, levels)
    s, z = scales[g_idx].astype(np.float64).T, zeros[g_idx].T
    codes = np.clip(np.round(w / s) + z, 0, levels).astype(np.int64)
    stored = {"qweight": bit_stream(codes.T, bits), "qzeros": bit_stream((zeros - (2 - version)).T, bits).T.copy(),
              "scales": scales, "g_idx": g_idx}
    return {key: torch.from_numpy(value) for key, value in stored.items()}, torch.from_numpy((codes - z) * s).float()


def fp8_blocks(weight, block):
    out, inputs = weight.shape
    rows, cols = -(-out // block), -(-inputs // block)
    scale = torch.empty(rows, cols)
    for r in range(rows):
        for c in range(cols):
            scale[r, c] = weight[r * block : (r + 1) * block, c * block : (c + 1) * block].abs().max() / 448
    full = scale.repeat_interleave(block, 0)[:out].repeat_interleave(block, 1)[:, :inputs]
    codes = (weight / full).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale_inv": scale}, codes.float() * full


def compressed(weight, format, weights, inputs=None, scale_dtype=torch.bfloat16):
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights),
                                input_activations=QuantizationArgs(**inputs) if inputs else None)
    args = scheme.weights
    if args.strategy == "group":
        parts = weight.reshape(weight.shape[0], -1, args.group_size)
    else:
        parts = weight.reshape(weight.shape[0] if args.strategy == "channel" else 1, 1, -1)
    scale, zero = calculate_qparams(parts.amin(dim=2), parts.amax(dim=2), args)
    compressor = BaseCompressor.get_value_from_registry(format)
    state = {"weight": weight, "weight_scale": scale.to(scale_dtype), "weight_zero_point": zero}
    stored = compressor.compress(state, scheme)
    precise = dict(stored)
    if precise["weight_scale"].is_floating_point():  # the package decodes in the type of the scales
        precise["weight_scale"] = precise["weight_scale"].float()
    return stored, compressor.decompress(precise, scheme)["weight"].float()


def group_of(targets, format, weights, inputs=None):
    return {"targets": targets, "format": format, "weights": weights, "input_activations": inputs}


def compressed_config(format, groups, ignore):
    return {"quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
            "config_groups": {f"group_{i}": group for i, group in enumerate(groups)}, "ignore": ignore}


# --- the cases ---

PACK4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
FP8_INPUTS = {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True}
MXFP4 = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "symmetric": True,
         "scale_dtype": "torch.uint8", "zp_dtype": "torch.uint8"}


def gptq_config(bits, group, symmetric, act_order, version, **more):
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": act_order,
            "checkpoint_format": "gptq" if version == 1 else "gptq_v2", **more}


def mixed(name, weight):
    if "mlp" in name:
        return compressed(weight, "float-quantized", FP8, FP8_INPUTS)
    return compressed(weight, "pack-quantized", PACK4)


def in_layers(name):
    return "proj" in name


CASES = {
    "llama_gptq_act_order": ("llama", gptq_config(4, 32, True, True, 1, lm_head=True), lambda name: "embed" not in name,
                             lambda name, w: gptq(w, 4, 32, True, True, 1)),
    "qwen2_gptq_v2_3bit": ("qwen2", gptq_config(3, 32, False, False, 2, dynamic={"+:.*down_proj": {"bits": 8}}), in_layers,
                           lambda name, w: gptq(w, 8 if "down" in name else 3, 32, False, False, 2)),
    "llama_compressed_mixed": ("llama", compressed_config("mixed-precision", [
        group_of(["Linear"], "pack-quantized", PACK4),
        group_of(["re:.*mlp.*"], "float-quantized", FP8, FP8_INPUTS)], ["lm_head", "re:.*layers.0.self_attn.o_proj"]),
        lambda name: in_layers(name) and "layers.0.self_attn.o_proj" not in name, mixed),
    "qwen2_compressed_mxfp4": ("qwen2", compressed_config("mxfp4-pack-quantized", [
        group_of(["Linear"], "mxfp4-pack-quantized", MXFP4)], ["lm_head"]), in_layers,
        lambda name, w: compressed(w, "mxfp4-pack-quantized", MXFP4, scale_dtype=torch.float32)),
    "llama_autoawq": ("llama", {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm",
                                "modules_to_not_convert": None}, in_layers, lambda name, w: packages.autoawq(w, 32)),
    "llama_gptqmodel_act_order": ("llama", gptq_config(4, 32, True, True, 1), in_layers,
                                  lambda name, w: packages.gptqmodel(w, 4, 32, True, True, 1)),
    "qwen2_gptqmodel_v2": ("qwen2", gptq_config(4, 32, False, False, 2), in_layers,
                           lambda name, w: packages.gptqmodel(w, 4, 32, False, False, 2)),
    "llama_autogptq_act_order": ("llama", gptq_config(4, 32, False, True, 1), in_layers,
                                 lambda name, w: packages.auto_gptq(w, 4, 32, True)),
    "llama_fp8_blocks": ("llama", {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                   "weight_block_size": [64, 64]}, in_layers, lambda name, w: fp8_blocks(w, 64)),
}


# Whole checkpoints of llm-compressor: model type and weights.
LLMCOMPRESSOR = {"llama_llmcompressor_w4a16": ("llama", PACK4)}


def model_config(model_type):
    name = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[model_type]
    return {"architectures": [name], "model_type": model_type, "vocab_size": 96, "hidden_size": 64,
            "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}


def quantize(weights, chosen, store):
    """{key: tensor} as stored and as decoded."""
    stored, decoded = {}, {}
    for key, weight in weights.items():
        module = key.removesuffix(".weight")
        if weight.dim() != 2 or not key.endswith(".weight") or not chosen(module):
            stored[key] = decoded[key] = weight
            continue
        parts, decoded[key] = store(module, weight)
        stored |= {f"{module}.{part}": tensor.contiguous() for part, tensor in parts.items()}
    return stored, decoded


def case_of(name, model_type):
    return SimpleNamespace(name=name, model_type=model_type, config=model_config(model_type), seed=len(name), dtype="float32",
                           prompts=(5, 21))


def record(folder, name, model_type, quantization, chosen, store):
    case = case_of(name, model_type)
    reference = make_reference(model_type, case.config)
    stored, decoded = quantize(random_weights(case, reference.shapes()), chosen, store)
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(case.config | {"quantization_config": quantization}, indent=2) + "\n")
    save_file(stored, folder / name / "model.safetensors", metadata={"format": "pt"})
    record_expected(folder, case, reference.load(decoded))


def record_llmcompressor(folder, name, model_type, weights):
    """llm-compressor makes the whole checkpoint; the expected logits are those of what compressed-tensors decodes from it."""
    case = case_of(name, model_type)
    reference = make_reference(model_type, case.config)
    config = transformers.AutoConfig.for_model(**case.config)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(random_weights(case, reference.shapes()))
    with tempfile.TemporaryDirectory() as plain:  # llm-compressor asks for the folder a model came from
        model.save_pretrained(plain)
        packages.llmcompressor(transformers.AutoModelForCausalLM.from_pretrained(plain), folder / name, weights)
    for extra in ("recipe.yaml", "generation_config.json"):
        (folder / name / extra).unlink(missing_ok=True)
    quantization = json.loads((folder / name / "config.json").read_text())["quantization_config"]
    (folder / name / "config.json").write_text(json.dumps(case.config | {"quantization_config": quantization}, indent=2) + "\n")
    record_expected(folder, case, reference.load(decompress(load_file(folder / name / "model.safetensors"), quantization)))


def decompress(stored, quantization):
    (group,) = quantization["config_groups"].values()
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**group["weights"]))
    compressor = BaseCompressor.get_value_from_registry(quantization["format"])
    decoded = {key: tensor for key, tensor in stored.items() if key.endswith(".weight")}
    for key in [key for key in stored if key.endswith(".weight_packed")]:
        module = key.removesuffix(".weight_packed")
        parts = {part.removeprefix(module + "."): tensor for part, tensor in stored.items() if part.startswith(module + ".")}
        parts["weight_scale"] = parts["weight_scale"].float()
        decoded[module + ".weight"] = compressor.decompress(parts, scheme)["weight"].float()
    return decoded


def record_expected(folder, case, model):
    name = case.name
    prompts, margin = record_prompts(case, model)
    named = {f"prompt.{i}.{key}": value for i, tensors in enumerate(prompts) for key, value in tensors.items()}
    write_expected(folder / name, named, f"transformers {transformers.__version__}, f32, eager attention")
    print(f"{name:28} margin {margin:.4f}")


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/golden/quantized"
    wanted = sys.argv[2:] or [*CASES, *LLMCOMPRESSOR]
    for name in wanted:
        if name in LLMCOMPRESSOR:
            record_llmcompressor(folder, name, *LLMCOMPRESSOR[name])
        else:
            record(folder, name, *CASES[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
