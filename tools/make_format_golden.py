#!/usr/bin/env python3
"""Records tests/golden/formats: single linears compressed by the compressed-tensors package, with what it decodes.

Each file is a safetensors file with the stored tensors of the linear "m", the package's decoded weight "expected" in
f32, and the quantization_config in its metadata. Needs torch, safetensors and compressed-tensors.

  make_format_golden.py DIRECTORY
"""

import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

OUT, INPUTS = 32, 64


def reduced(weight: torch.Tensor, args: QuantizationArgs, reduce) -> torch.Tensor:
    """min or max over everything that shares a scale, in the shape of the scales."""
    if args.strategy == "tensor":
        return reduce(weight.reshape(1, -1), dim=1)
    if args.strategy == "channel":
        return reduce(weight, dim=1, keepdim=True)
    if args.strategy == "group":
        return reduce(weight.reshape(OUT, -1, args.group_size), dim=2)
    rows, cols = args.block_structure
    tiles = weight.reshape(OUT // rows, rows, INPUTS // cols, cols).transpose(1, 2).reshape(OUT // rows, INPUTS // cols, -1)
    return reduce(tiles, dim=2)


def scheme_of(weights: dict, inputs: dict | None) -> QuantizationScheme:
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights),
                              input_activations=QuantizationArgs(**inputs) if inputs else None)


def record(directory: Path, name: str, format: str, weights: dict, inputs: dict | None = None,
           dtype: torch.dtype = torch.bfloat16) -> None:
    torch.manual_seed(sum(map(ord, name)))
    weight = (torch.randn(OUT, INPUTS) * 0.05 + 0.01).to(dtype)
    scheme = scheme_of(weights, inputs)
    args = scheme.weights
    scale, zero = calculate_qparams(reduced(weight, args, torch.amin), reduced(weight, args, torch.amax), args)
    compressor = BaseCompressor.get_value_from_registry(format)
    state = {"weight": weight, "weight_scale": scale.to(torch.float32 if args.num_bits == 4 and args.type == "float" else dtype),
             "weight_zero_point": zero}
    stored = compressor.compress(state, scheme)
    decoded = compressor.decompress(dict(stored), scheme)["weight"]
    config = {"quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
              "config_groups": {"group_0": json.loads(scheme.model_dump_json())}, "ignore": ["lm_head"]}
    tensors = {f"m.{key}": value.contiguous() for key, value in stored.items()}
    save_file(tensors | {"expected": decoded.float()}, directory / f"{name}.safetensors",
              metadata={"quantization_config": json.dumps(config)})


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for bits in range(2, 9):
        record(directory, f"pack_{bits}_group_asym", "pack-quantized",
               {"num_bits": bits, "strategy": "group", "group_size": 32, "symmetric": False})
    pack = {"num_bits": 4}
    record(directory, "pack_4_group_sym", "pack-quantized", pack | {"strategy": "group", "group_size": 16})
    record(directory, "pack_4_channel_sym_f16", "pack-quantized", pack | {"strategy": "channel"}, dtype=torch.float16)
    record(directory, "pack_3_channel_asym", "pack-quantized", {"num_bits": 3, "strategy": "channel", "symmetric": False})
    record(directory, "pack_8_tensor_sym", "pack-quantized", {"num_bits": 8, "strategy": "tensor"})
    dynamic = {"num_bits": 8, "dynamic": True, "strategy": "token"}
    record(directory, "int_8_channel_w8a8", "int-quantized", {"num_bits": 8, "strategy": "channel"}, dynamic)
    record(directory, "int_8_channel_asym", "int-quantized", {"num_bits": 8, "strategy": "channel", "symmetric": False}, dynamic)
    record(directory, "naive_8_tensor", "naive-quantized", {"num_bits": 8, "strategy": "tensor"})
    e4m3 = {"num_bits": 8, "type": "float"}
    record(directory, "float_8_channel", "float-quantized", e4m3 | {"strategy": "channel"}, dynamic | {"type": "float"})
    record(directory, "float_8_tensor", "float-quantized", e4m3 | {"strategy": "tensor"})
    record(directory, "float_8_block", "float-quantized", e4m3 | {"strategy": "block", "block_structure": [16, 32]})
    record(directory, "naive_float_8_group", "naive-quantized", e4m3 | {"strategy": "group", "group_size": 16})
    record(directory, "mxfp4", "mxfp4-pack-quantized",
           {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8", "zp_dtype": "torch.uint8"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
