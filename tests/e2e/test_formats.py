"""quantize --format: other programs' readers find the weights whose loss Bittern reports.

compressed-tensors outputs are loaded by transformers with the compressed-tensors package, which skips when these are
absent. GPTQ outputs are unpacked here, bit by bit as the format says.
"""

import json
import sys

import numpy as np
import pytest
from conftest import MINI, ROOT, bittern, bittern_json

sys.path.insert(0, str(ROOT / "tools"))
from awq_reference import nmse, read_checkpoint  # noqa: E402


def read_config(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def fields(words: np.ndarray, bits: int) -> np.ndarray:
    """i32 words (count, streams) -> their fields (count * 32 / bits, streams), least significant bit first."""
    planes = (words.view(np.uint32)[:, None, :] >> np.arange(32, dtype=np.uint32)[None, :, None]) & 1
    stream = planes.reshape(-1, bits, words.shape[1]).astype(np.int64)
    return (stream << np.arange(bits)[None, :, None]).sum(axis=1)


def decode_gptq(tensors: dict, name: str, config: dict) -> np.ndarray:
    bits, shift = config["bits"], 1 if config["checkpoint_format"] == "gptq" else 0
    codes = fields(tensors[name + ".qweight"], bits)
    zeros = fields(np.ascontiguousarray(tensors[name + ".qzeros"].T), bits).T + shift
    scales, g_idx = tensors[name + ".scales"].astype(np.float32), tensors[name + ".g_idx"]
    return ((codes - zeros[g_idx]) * scales[g_idx]).T


@pytest.mark.parametrize("scheme", ["w4a16", "w4a16-sym", "w8a16", "w8a16-sym"])
def test_gptq_decodes_to_the_reported_loss(tmp_path, scheme):
    report = bittern_json("quantize", MINI, "-o", tmp_path / "out", "--scheme", scheme, "--format", "gptq")
    config, source, output = read_config(tmp_path / "out"), read_checkpoint(MINI), read_checkpoint(tmp_path / "out")
    assert report["linears"]
    for linear in report["linears"]:
        decoded = decode_gptq(output, linear["name"], config)
        loss = nmse(source[linear["name"] + ".weight"].astype(np.float32), decoded)
        assert loss == pytest.approx(linear["nmse"], rel=1e-3), linear["name"]


@pytest.mark.parametrize("scheme,group", [("w4a16", 128), ("w4a16-sym", 32), ("w3a16", 64), ("w5a16", -1), ("w6a16-sym", 128),
                                          ("w8a16", 128), ("w8a16-sym", -1), ("w8a8", -1)])
def test_transformers_loads_compressed_tensors(tmp_path, scheme, group):
    pytest.importorskip("compressed_tensors", reason="absent: the compressed-tensors package")
    torch = pytest.importorskip("torch", reason="absent: torch")
    transformers = pytest.importorskip("transformers", reason="absent: transformers")
    out = tmp_path / "out"
    report = bittern_json("quantize", MINI, "-o", out, "--scheme", scheme, "--format", "compressed-tensors", "--group-size", group,
                          "--skip", "layers.1.mlp.down_proj")
    settings = transformers.CompressedTensorsConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, quantization_config=settings)
    original = transformers.AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32)
    weights, sources = model.state_dict(), original.state_dict()
    assert report["linears"]
    for linear in report["linears"]:
        key = linear["name"] + ".weight"
        assert weights[key].shape == sources[key].shape, key
        loss = nmse(sources[key].numpy(), weights[key].float().numpy())
        assert loss == pytest.approx(linear["nmse"], rel=1e-3, abs=5e-6), key  # decoded in bf16, whose own loss is 3e-6
    skipped = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(weights[skipped], sources[skipped])
    ids = torch.arange(3, 19)[None]
    assert torch.isfinite(model(ids).logits).all()


def test_a_format_that_cannot_hold_the_scheme_is_refused(tmp_path):
    result = bittern("quantize", MINI, "-o", tmp_path / "out", "--scheme", "w8a8", "--format", "awq", check=None)
    assert result.returncode != 0
    assert "scheme w8a8 cannot be written in the format 'awq'" in result.stderr
    assert not (tmp_path / "out").exists()
