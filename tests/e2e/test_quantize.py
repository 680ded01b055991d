"""quantize: the written checkpoint read with numpy alone, by AutoAWQ's documented bit order; refusals; atomic output."""

import json
import signal
import struct
import subprocess
import time

import numpy as np
import pytest
from conftest import MINI, PROGRAM, bittern, bittern_json, clean_environment

ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word holds column 8c + ORDER[i]


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    types = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "BF16": np.uint16}
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        raw = np.frombuffer(data[8 + length + begin : 8 + length + end], dtype=types[info["dtype"]]).reshape(info["shape"])
        tensors[name] = (raw.astype(np.uint32) << 16).view(np.float32) if info["dtype"] == "BF16" else raw
    return tensors


def unpack(words):
    """int32 [R, N/8] -> [R, N] of 0..15."""
    nibbles = (words.view(np.uint32)[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    columns = np.empty(nibbles.shape, dtype=np.int64)
    columns[:, :, ORDER] = nibbles
    return columns.reshape(words.shape[0], -1)


def rtn(weight, group):
    """design: the range includes 0, scale rounded to f16 first, then zero and codes from the stored scale."""
    out, width = weight.shape
    w = weight.astype(np.float64).reshape(out, width // group, group)
    low, high = np.minimum(w.min(-1), 0), np.maximum(w.max(-1), 0)
    scale = (np.maximum(high - low, 1e-5) / 15).astype(np.float16).astype(np.float64)
    zero = np.clip(np.rint(-low / scale), 0, 15)
    codes = np.clip(np.rint(w / scale[..., None]) + zero[..., None], 0, 15)
    return codes.reshape(out, width), scale, zero


@pytest.mark.parametrize("group", [128, 64, 32])
def test_codes_equal_numpys(tmp_path, group):
    out = tmp_path / "w4"
    bittern("quantize", "-o", out, "--group-size", group)
    source, written = read_safetensors(MINI / "model.safetensors"), read_safetensors(out / "model.safetensors")
    checked = 0
    for name in [n[: -len(".qweight")] for n in written if n.endswith(".qweight")]:
        codes, scale, zero = rtn(source[name + ".weight"], group)
        ours = unpack(written[name + ".qweight"]).T
        np.testing.assert_array_equal(written[name + ".scales"].T.astype(np.float64), scale)
        np.testing.assert_array_equal(unpack(written[name + ".qzeros"]).T, zero)
        # f32 and f64 may round a weight that lies on the edge of two codes differently, by one.
        different = ours != codes
        assert np.abs(ours - codes).max() <= 1 and different.mean() < 1e-3
        checked += 1
    assert checked == 7 * 6


def test_config_says_what_other_tools_expect(mini_w4):
    config = json.loads((mini_w4 / "config.json").read_text())["quantization_config"]
    expected = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
    assert expected.items() <= config.items()
    assert {"tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= {p.name for p in mini_w4.iterdir()}


def test_quantized_model_answers(mini_w4):
    assert bittern_json("generate", mini_w4, "-p", "Hello!", "--temperature", 0)["samples"][0]["text"].strip()


def test_quantized_model_is_smaller_and_close(mini_w4):
    assert bittern_json("show", mini_w4)["bytes"] < 0.45 * bittern_json("show")["bytes"]
    text = MINI / "text" / "heldout.txt"
    kl = bittern_json("eval", "kl", mini_w4, "--data", text, "--limit", 4)["kl"]
    assert 0 < kl["kl"]["mean"] < 0.5


def test_report_matches_numpy(tmp_path):
    out = tmp_path / "w4"
    report = bittern_json("quantize", "-o", out, "--group-size", 128)
    source = read_safetensors(MINI / "model.safetensors")
    linear = report["linears"][0]
    codes, scale, zero = rtn(source[linear["name"] + ".weight"], 128)
    decoded = ((codes.reshape(*scale.shape, 128) - zero[..., None]) * scale[..., None]).reshape(codes.shape)
    weight = source[linear["name"] + ".weight"].astype(np.float64)
    nmse = ((weight - decoded) ** 2).sum() / (weight**2).sum()
    assert linear["nmse"] == pytest.approx(nmse, rel=1e-3)


def test_existing_output_is_not_touched(tmp_path):
    out = tmp_path / "w4"
    out.mkdir()
    (out / "precious").write_text("x")
    result = bittern("quantize", "-o", out, check=None)
    assert result.returncode != 0 and str(out) in result.stderr
    assert [p.name for p in out.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "args, word",
    [
        (("--scheme", "w3"), "w4a16"),
        (("--algorithm", "magic"), "rtn"),
        (("--group-size", "48"), "48"),
        (("--skip", "no_such_linear"), "no_such_linear"),
    ],
)
def test_refusals_name_the_thing_and_what_there_is(tmp_path, args, word):
    result = bittern("quantize", "-o", tmp_path / "w4", *args, check=None)
    assert result.returncode != 0 and word in result.stderr
    assert not (tmp_path / "w4").exists()


def test_quantizing_a_quantized_model_is_refused(tmp_path, mini_w4):
    result = bittern("quantize", mini_w4, "-o", tmp_path / "twice", check=None)
    assert result.returncode != 0 and "quantized" in result.stderr


def test_skip_keeps_a_linear(tmp_path):
    out = tmp_path / "w4"
    bittern("quantize", "-o", out, "--skip", "down_proj")
    names = read_safetensors(out / "model.safetensors")
    assert "model.layers.0.mlp.down_proj.weight" in names and "model.layers.0.mlp.up_proj.qweight" in names
    assert bittern_json("generate", out, "-p", "Hello!", "--max-tokens", 4)["generated_tokens"] > 0


def test_a_killed_run_leaves_no_output(tmp_path):
    out = tmp_path / "w4"
    process = subprocess.Popen([str(PROGRAM), "quantize", "-o", str(out), "--threads", "1"], env=clean_environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.03)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if out.exists():  # it was faster than the signal: then it must be whole
        bittern("show", out)
    else:
        assert all(p.name.startswith("w4.partial-") for p in tmp_path.iterdir())


def test_dry_run_writes_nothing(tmp_path):
    plan = bittern_json("quantize", "-o", tmp_path / "w4", "--dry-run")
    assert plan["linears"] == 42 and not (tmp_path / "w4").exists()
