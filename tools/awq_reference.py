#!/usr/bin/env python3
"""An independent reader and quantizer of AWQ GEMM checkpoints in numpy, to check those that Bittern writes.

It reads safetensors by itself, unpacks by the bit order that AutoAWQ documents, and rounds to nearest with numpy's own
arithmetic; it shares no code with the program. It needs numpy alone.

  awq_reference.py verify SOURCE OUTPUT   compares a checkpoint that `bittern quantize` wrote with numpy's result
  awq_reference.py golden FILE            records the vectors of tests/golden/quant_rtn.json
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word holds output column 8c + ORDER[i]
NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "I64": "<i8", "U8": "u1", "I8": "i1"}


def read_safetensors(path: Path) -> dict:
    """All tensors of one file by name; bfloat16 comes as f32."""
    blob = path.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(blob[begin:end], dtype=NUMPY_TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = bf16_to_f32(array) if entry["dtype"] == "BF16" else array
    return tensors


def read_checkpoint(folder: Path) -> dict:
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read_safetensors(path))
    return tensors


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rtn(weight: np.ndarray, group_size: int):
    """weight f32 (out, in) -> codes u8 (out, in), zeros u8 (out, groups), scales f16 (out, groups)."""
    out, inputs = weight.shape
    groups = weight.reshape(out, -1, inputs if group_size == -1 else group_size)
    lo = np.minimum(groups.min(axis=2), np.float32(0))
    hi = np.maximum(groups.max(axis=2), np.float32(0))
    scales = (np.maximum(hi - lo, np.float32(1e-5)) / np.float32(15)).astype(np.float16)
    stored = scales.astype(np.float32)
    zeros = np.clip(np.round(-lo / stored), 0, 15)
    codes = np.clip(np.round(groups / stored[..., None]) + zeros[..., None], 0, 15)
    return codes.reshape(out, inputs).astype(np.uint8), zeros.astype(np.uint8), scales


def pack(columns: np.ndarray) -> np.ndarray:
    """u8 (rows, N) of nibbles -> i32 (rows, N / 8)."""
    rows, n = columns.shape
    words = np.zeros((rows, n // 8), dtype=np.uint32)
    for nibble, column in enumerate(ORDER):
        words |= columns[:, column::8].astype(np.uint32) << np.uint32(4 * nibble)
    return words.view(np.int32)


def unpack(words: np.ndarray) -> np.ndarray:
    """i32 (rows, N / 8) -> u8 (rows, N)."""
    rows, count = words.shape
    columns = np.empty((rows, count * 8), dtype=np.uint8)
    for nibble, column in enumerate(ORDER):
        columns[:, column::8] = (words.view(np.uint32) >> np.uint32(4 * nibble)) & np.uint32(15)
    return columns


def dequantize(qweight: np.ndarray, qzeros: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The three tensors of a linear -> f32 (out, in)."""
    per_group = qweight.shape[0] // scales.shape[0]
    zeros = np.repeat(unpack(qzeros).astype(np.float32), per_group, axis=0)
    steps = np.repeat(scales.astype(np.float32), per_group, axis=0)
    return ((unpack(qweight).astype(np.float32) - zeros) * steps).T


def nmse(weight: np.ndarray, decoded: np.ndarray) -> float:
    w, d = weight.astype(np.float64), decoded.astype(np.float64)
    return float(((w - d) ** 2).sum() / (w**2).sum())


def compare_linear(name: str, weight: np.ndarray, output: dict, group_size: int) -> float:
    """Raises AssertionError when a code, zero or scale differs; returns the NMSE of what is stored."""
    codes, zeros, scales = rtn(weight, group_size)
    np.testing.assert_array_equal(unpack(output[name + ".qweight"]).T, codes, err_msg=name + ".qweight")
    np.testing.assert_array_equal(unpack(output[name + ".qzeros"]).T, zeros, err_msg=name + ".qzeros")
    np.testing.assert_array_equal(output[name + ".scales"].T, scales, err_msg=name + ".scales")
    return nmse(weight, dequantize(*(output[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales"))))


def verify(source_dir: Path, output_dir: Path) -> dict:
    """Every tensor of the output is the source's own or numpy's quantization of it. Returns the NMSE by linear."""
    config = json.loads((output_dir / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "awq" and config["version"] == "gemm", config
    assert config["bits"] == 4 and config["zero_point"] is True, config
    source, output = read_checkpoint(source_dir), read_checkpoint(output_dir)
    losses = {}
    for name, tensor in source.items():
        linear = name.removesuffix(".weight")
        if linear + ".qweight" in output:
            losses[linear] = compare_linear(linear, tensor.astype(np.float32), output, config["group_size"])
            for part in ("qweight", "qzeros", "scales"):
                del output[f"{linear}.{part}"]
        else:
            np.testing.assert_array_equal(tensor, output.pop(name), err_msg=name)
    assert not output, f"tensors that the source does not explain: {sorted(output)}"
    assert losses, "nothing was quantized"
    kept = config["modules_to_not_convert"]
    assert not any(module in linear for linear in losses for module in kept), kept
    return losses


def hex_words(array: np.ndarray, digits: int) -> str:
    unsigned = array.astype(array.dtype.newbyteorder("=")).view(f"u{array.dtype.itemsize}")
    return "".join(f"{int(word):0{digits}x}" for word in unsigned.ravel())


def golden_case(rng, name: str, out: int, inputs: int, group_size: int, scale: float, offset: float = 0.0) -> dict:
    values = (rng.normal(0, scale, (out, inputs)) + offset).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    weight = bf16_to_f32(bits)
    codes, zeros, scales = rtn(weight, group_size)
    qweight, qzeros, columns = pack(codes.T), pack(zeros.T), np.ascontiguousarray(scales.T)
    loss = nmse(weight, dequantize(qweight, qzeros, columns))
    return {"name": name, "out": out, "in": inputs, "group_size": group_size, "bf16": hex_words(bits, 4),
            "qweight": hex_words(qweight, 8), "qzeros": hex_words(qzeros, 8), "scales": hex_words(columns, 4), "nmse": loss}


def golden(path: Path) -> None:
    rng = np.random.default_rng(20240901)
    cases = [
        golden_case(rng, "groups of 32", 16, 96, 32, 0.04),
        golden_case(rng, "groups of 128", 8, 256, 128, 0.02),
        golden_case(rng, "per channel, width no power of two", 8, 172, -1, 0.05),
        golden_case(rng, "all positive: the range must include zero", 8, 64, 64, 0.1, 1.5),
        golden_case(rng, "tiny weights: scales are subnormal in f16", 8, 64, 32, 2e-6),
        golden_case(rng, "large weights", 8, 64, 32, 9000.0),
    ]
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{{"made_by": "tools/awq_reference.py golden, numpy {np.__version__}", "cases": [\n{lines}\n]}}\n')


def main() -> int:
    if len(sys.argv) == 4 and sys.argv[1] == "verify":
        losses = verify(Path(sys.argv[2]), Path(sys.argv[3]))
        print(f"{len(losses)} linears equal numpy's; NMSE {min(losses.values()):.6f} to {max(losses.values()):.6f}")
        return 0
    if len(sys.argv) == 3 and sys.argv[1] == "golden":
        golden(Path(sys.argv[2]))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
