"""quantize, every tensor: tools/awq_reference.py, a reader and quantizer of its own in numpy, checks whole checkpoints."""

import sys

import pytest
from conftest import MINI, ROOT, bittern, bittern_json

sys.path.insert(0, str(ROOT / "tools"))
from awq_reference import verify  # noqa: E402


@pytest.mark.parametrize("options", [("--group-size", -1), ("--skip", "down_proj", "--skip", "re:.*layers.0"),
                                     ("--max-shard", "1MB")])
def test_every_tensor_equals_numpys(tmp_path, options):
    out = tmp_path / "w4"
    report = bittern_json("quantize", MINI, "-o", out, *options)
    losses = verify(MINI, out)
    assert {linear["name"]: linear["nmse"] for linear in report["linears"]} == pytest.approx(losses, rel=1e-6)


def test_the_reference_notices_one_wrong_code(tmp_path):
    out = tmp_path / "w4"
    bittern("quantize", MINI, "-o", out)
    path = out / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(AssertionError):
        verify(MINI, out)
