"""Checkpoints that Bittern writes, run by transformers with the formats' own packages, and theirs run by Bittern.

Both compute the embedded model; probabilities agree within 2e-3 of their size. Each test skips by the name of a package that
is absent: `make test-references` installs them, 6 GB that `make test` does without. What those packages
make of small models is recorded in tests/golden/quantized too, so that reading it is tested everywhere.
"""

import importlib.util
import json
import shutil
import sys

import pytest
from conftest import MINI, ROOT, bittern
from reference_model import distance, generated, load

sys.path.insert(0, str(ROOT / "tools"))

TOLERANCE = 2e-3


def needs(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"absent: {package}")


@pytest.fixture(scope="module", autouse=True)
def the_reference_itself():
    needs("torch", "transformers")
    assert distance(load(MINI), generated(MINI)) < 1e-5


def quantized(tmp_path, *options):
    bittern("quantize", MINI, "-o", tmp_path / "out", *options)
    return tmp_path / "out"


# --- ours, run by theirs ---


@pytest.mark.parametrize("scheme,group", [("w4a16-sym", 128), ("w4a16-sym", 32), ("w8a16-sym", -1), ("w6a16-sym", 64)])
def test_transformers_runs_our_compressed_tensors(tmp_path, scheme, group):
    needs("compressed_tensors", "accelerate")
    out = quantized(tmp_path, "--scheme", scheme, "--format", "compressed-tensors", "--group-size", group)
    assert distance(load(out), generated(out)) < 1e-5


# transformers 5.23 loads no packed zero points unless it decodes them at once, not even the package's own; decoding is in
# bf16. The inputs of w8a8 are then not rounded; here neither, with --compute f32.
@pytest.mark.parametrize("scheme,group", [("w4a16", 128), ("w4a16", 32), ("w3a16", 64), ("w8a16", 128), ("w8a8", -1)])
def test_transformers_runs_our_compressed_tensors_decoded(tmp_path, scheme, group):
    needs("compressed_tensors", "accelerate")
    from transformers import CompressedTensorsConfig

    out = quantized(tmp_path, "--scheme", scheme, "--format", "compressed-tensors", "--group-size", group)
    model = load(out, quantization_config=CompressedTensorsConfig(dequantize=True))
    assert distance(model, generated(out)) < TOLERANCE


@pytest.mark.parametrize("options", [
    ("--scheme", "w4a16"),
    ("--scheme", "w4a16", "--group-size", 32),
    ("--scheme", "w4a16", "--format", "gptq"),
    ("--scheme", "w4a16-sym", "--format", "gptq"),
    ("--scheme", "w8a16-sym", "--format", "gptq", "--group-size", -1),
])
def test_transformers_runs_our_awq_and_gptq_with_gptqmodel(tmp_path, options):
    needs("gptqmodel", "optimum")
    out = quantized(tmp_path, *options)
    assert distance(load(out, dtype="float16"), generated(out)) < TOLERANCE


def test_gptqmodel_itself_leaves_out_what_we_skip(tmp_path):
    """transformers' loader does not look at "dynamic", the package's own does."""
    needs("gptqmodel")
    from gptqmodel import BACKEND, GPTQModel

    out = quantized(tmp_path, "--scheme", "w4a16-sym", "--format", "gptq", "--skip", "layers.1.mlp.down_proj")
    model = GPTQModel.load(str(out), backend=BACKEND.GPTQ_TORCH, device="cpu").model
    assert type(model.model.layers[1].mlp.down_proj).__name__ == "Linear"
    assert str(model.model.norm.weight.dtype) == "torch.bfloat16"  # it chooses that on a CPU, which is coarser
    assert distance(model, generated(out)) < 2 * TOLERANCE


# --- theirs, run by ours ---


def store_linears(folder, store, quantization):
    """The embedded model with every linear of its layers as `store(weight) -> (parts, decoded)` makes it; also the decoded one."""
    import torch
    from safetensors.torch import load_file, save_file

    stored, decoded = {}, {}
    for key, tensor in load_file(MINI / "model.safetensors").items():
        stored[key] = decoded[key] = tensor
        if key.endswith("_proj.weight"):
            parts, decoded[key] = store(stored.pop(key).float())
            stored |= {key.removesuffix("weight") + part: each.contiguous() for part, each in parts.items()}
    config = json.loads((MINI / "config.json").read_text())
    for name, tensors, more in (("stored", stored, {"quantization_config": quantization}), ("decoded", decoded, {})):
        shutil.copytree(MINI, folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
        (folder / name / "config.json").write_text(json.dumps(config | more))
        save_file({key: each.float() if each.is_floating_point() and name == "decoded" else each for key, each in tensors.items()},
                  folder / name / "model.safetensors", metadata={"format": "pt"})
    assert torch.is_tensor(decoded["model.embed_tokens.weight"])
    return folder / "stored", folder / "decoded"


def gptq(bits, symmetric, act_order, version):
    return {"quant_method": "gptq", "bits": bits, "group_size": 128, "sym": symmetric, "desc_act": act_order,
            "checkpoint_format": "gptq" if version == 1 else "gptq_v2"}


def test_we_run_autoawqs(tmp_path):
    needs("awq")
    import package_quantizers as packages

    config = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm",
              "modules_to_not_convert": None}
    stored, decoded = store_linears(tmp_path, lambda w: packages.autoawq(w, 128), config)
    assert distance(load(decoded), generated(stored)) < 1e-5


@pytest.mark.parametrize("bits,symmetric,act_order,version", [(4, True, True, 1), (4, False, False, 2), (8, True, False, 1),
                                                              (3, False, True, 1)])
def test_we_run_gptqmodels(tmp_path, bits, symmetric, act_order, version):
    needs("gptqmodel")
    import package_quantizers as packages

    stored, decoded = store_linears(tmp_path, lambda w: packages.gptqmodel(w, bits, 128, symmetric, act_order, version),
                                    gptq(bits, symmetric, act_order, version))
    assert distance(load(decoded), generated(stored)) < 1e-5


@pytest.mark.parametrize("act_order", [False, True])
def test_we_run_autogptqs(tmp_path, act_order):
    needs("auto_gptq")
    import package_quantizers as packages

    stored, decoded = store_linears(tmp_path, lambda w: packages.auto_gptq(w, 4, 128, act_order), gptq(4, False, act_order, 1))
    assert distance(load(decoded), generated(stored)) < 1e-5


@pytest.mark.parametrize("weights", [
    {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True},
    {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False},
    {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
    {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
])
def test_we_run_llmcompressors(tmp_path, weights):
    needs("llmcompressor")
    import package_quantizers as packages
    from transformers import CompressedTensorsConfig

    packages.llmcompressor(load(MINI, dtype="bfloat16"), tmp_path / "out", weights)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(MINI / name, tmp_path / "out" / name)
    model = load(tmp_path / "out", quantization_config=CompressedTensorsConfig(dequantize=True))
    assert distance(model, generated(tmp_path / "out")) < TOLERANCE
