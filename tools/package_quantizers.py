"""Linears stored by the packages that made the formats: AutoAWQ, GPT-QModel, AutoGPTQ and llm-compressor, on a CPU.

Their code packs and unpacks; only scales and zero points are chosen here, by rounding. Each package is imported when it
is asked for, since none of them is needed for more than this: `pip install --no-deps` of tests/e2e/requirements-packages.txt
beside torch and transformers is enough.
"""

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import torch

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # GPT-QModel would compile each linear for half a minute


def bare_package(name: str) -> None:
    """Makes submodules of a package importable without running its __init__, which wants packages that are not needed."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no package {name}")
    sys.modules[name] = importlib.util.module_from_spec(spec)


def range_of(weight: torch.Tensor, groups: torch.Tensor, bits: int, symmetric: bool):
    """(scales f16-valued f32, zeros), each (out, groups), by rounding; `groups` (in) tells the group of each input."""
    scales, zeros = [], []
    for group in range(int(groups.max()) + 1):
        part = weight[:, groups == group]
        lo, hi = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        span = 2 * torch.maximum(-lo, hi) if symmetric else hi - lo
        scale = (span / (2**bits - 1)).half().float()
        # Version 1 of GPTQ stores zeros less one, so none is 0 here.
        zero = torch.full_like(lo, 2 ** (bits - 1)) if symmetric else (-lo / scale).round().clamp(1, 2**bits - 1)
        scales.append(scale)
        zeros.append(zero)
    return torch.stack(scales, 1), torch.stack(zeros, 1)


def as_linear(weight: torch.Tensor) -> torch.nn.Linear:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = weight.float().clone()
    return linear


def group_index(inputs: int, group: int, act_order: bool) -> torch.Tensor:
    index = torch.arange(inputs) // group
    if act_order:
        order = torch.randperm(inputs, generator=torch.Generator().manual_seed(inputs))
        index = index[torch.argsort(order)]
    return index.to(torch.int32)


def autoawq(weight: torch.Tensor, group: int):
    """({part: tensor}, decoded f32) of a 4-bit linear as AutoAWQ's WQLinear_GEMM stores it."""
    for name in ("awq", "awq.modules", "awq.utils", "awq.modules.linear"):
        bare_package(name)
    gemm, packing = importlib.import_module("awq.modules.linear.gemm"), importlib.import_module("awq.utils.packing_utils")
    scales, zeros = range_of(weight, torch.arange(weight.shape[1]) // group, 4, False)
    module = gemm.WQLinear_GEMM.from_linear(as_linear(weight), 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
    stored = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales}
    return stored, packing.dequantize_gemm(module.qweight, module.qzeros, module.scales.float(), 4, group).T.contiguous()


def gptqmodel(weight: torch.Tensor, bits: int, group: int, symmetric: bool, act_order: bool, version: int):
    """The same for GPT-QModel's TorchLinear, whose zeros are version 2's until its own code makes them version 1's."""
    TorchLinear = importlib.import_module("gptqmodel.nn_modules.qlinear.torch").TorchLinear
    out, inputs = weight.shape
    index = group_index(inputs, group, act_order)
    scales, zeros = range_of(weight, index, bits, symmetric)
    module = TorchLinear(bits=bits, group_size=group, sym=symmetric, desc_act=act_order, in_features=inputs, out_features=out)
    module.pack_original(as_linear(weight), scales, zeros, index)
    module.eval()
    codes = {name: getattr(module, name).clone() for name in ("qweight", "qzeros", "scales", "g_idx")}
    module.scales = module.scales.float()
    decoded = module.dequantize_weight().T.float().contiguous()
    if version == 1:
        convert = importlib.import_module("gptqmodel.utils.model").convert_gptq_v2_to_v1_format_module
        convert(module, types.SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        codes["qzeros"] = module.qzeros.clone()
    return codes, decoded


def auto_gptq(weight: torch.Tensor, bits: int, group: int, act_order: bool):
    """The same for the packing of AutoGPTQ, which made version 1 of the format."""
    for name in ("auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"):
        bare_package(name)
    module_of = importlib.import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda")
    out, inputs = weight.shape
    index = group_index(inputs, group, act_order)
    scales, zeros = range_of(weight, index, bits, False)
    module = module_of.QuantLinear(bits, group, inputs, out, bias=False, weight_dtype=torch.float32)
    linear = as_linear(weight)
    module.pack(linear, scales.clone(), zeros.clone(), index)
    stored = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales.half(), "g_idx": module.g_idx.to(torch.int32)}
    return stored, module(torch.eye(inputs)).T.float().contiguous()  # each input picks one row of its decoding


def llmcompressor(model, folder: Path, weights: dict, ignore=("lm_head",)) -> None:
    """Quantizes a transformers model with llm-compressor by rounding and saves the checkpoint it makes."""
    oneshot = importlib.import_module("llmcompressor").oneshot
    modifier = importlib.import_module("llmcompressor.modifiers.quantization").QuantizationModifier
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    oneshot(model=model, recipe=modifier(config_groups=groups, ignore=list(ignore)))
    model.save_pretrained(folder, save_compressed=True)
