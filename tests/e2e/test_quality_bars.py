"""What calibration gains over rounding at the same bits, on the embedded model and on a real one, and what an int8 KV
cache costs. docs/quantization.md and docs/calibration.md have the figures; these are the bars they must keep."""

import os
import pathlib

import pytest
from conftest import MINI, ROOT, bittern, bittern_json

SHARED = pathlib.Path(os.environ.get("BITTERN_SHARED_DATA", ROOT.parent / "shared" / "data"))
STORIES = SHARED / "models" / "stories260K"
TEXT = SHARED / "text" / "tinystories.txt"
needs_stories = pytest.mark.skipif(not (STORIES.is_dir() and TEXT.is_file()), reason=f"absent: {STORIES} or {TEXT}")


def losses(tmp_path, model, layout, calibration, evaluation):
    """Mean KL divergence of each algorithm at the same bits."""
    return {
        algorithm: bittern_json("quantize", *model, "-o", tmp_path / algorithm, "--algorithm", algorithm, *layout,
                                *(calibration if algorithm != "rtn" else ()), *evaluation)["quality"]["kl"]["value"]
        for algorithm in ("rtn", "awq", "gptq")
    }  # fmt: skip


def test_embedded_model(tmp_path):
    kl = losses(tmp_path, (), (), ("--samples", 48, "--seqlen", 256), ())
    assert kl["awq"] < 0.85 * kl["rtn"] and kl["gptq"] < 0.5 * kl["rtn"], kl


@needs_stories
@pytest.mark.parametrize("group", [32, 64])
def test_stories260k(tmp_path, group):
    documents = TEXT.read_text().split("<|endoftext|>")
    calibration, held_out = tmp_path / "calibration.txt", tmp_path / "held-out.txt"
    calibration.write_text("\n\n".join(text.strip() for text in documents[200:]))
    held_out.write_text("\n\n".join(text.strip() for text in documents[:100]))
    # Its MLP is 172 wide, which no group size divides: what takes 172 inputs stays as it is.
    layout = ("--format", "compressed-tensors", "--group-size", group, "--skip", "down_proj")
    kl = losses(tmp_path, (STORIES,), layout, ("--data", calibration, "--samples", 64, "--seqlen", 256),
                ("--eval-data", held_out, "--eval-tokens", 8192))  # fmt: skip
    assert kl["awq"] < 0.9 * kl["rtn"] and kl["gptq"] < 0.8 * kl["rtn"], kl


@needs_stories
@pytest.mark.parametrize("layout", ["awq", "gptq", "compressed-tensors"])
def test_widths_that_a_layout_cannot_hold_are_refused_with_what_can(tmp_path, layout):
    result = bittern("quantize", STORIES, "-o", tmp_path / "out", "--format", layout, "--group-size", 32, check=None)
    assert result.returncode != 0 and "mlp.down_proj" in result.stderr and "172" in result.stderr
    hint = {"compressed-tensors": "--group-size -1"}.get(layout, "--skip down_proj --skip gate_proj --skip up_proj")
    assert hint in result.stderr


def test_int8_kv_cache_of_the_embedded_model():
    text = MINI / "text" / "heldout.txt"
    result = bittern_json("eval", "kl", "--data", text, "--kv-cache", "int8", "--reference-kv-cache", "f32")["kl"]
    plain = result["reference"]["nll"]["mean"]
    assert 0 < result["kl"]["mean"] < 1e-3 * plain
    assert result["same_top"]["mean"] >= 0.995


@needs_stories
def test_the_recommended_granularity_loses_least_where_it_matters(tmp_path):
    stats, text = tmp_path / "stats.safetensors", tmp_path / "text.txt"
    text.write_text("\n\n".join(t.strip() for t in TEXT.read_text().split("<|endoftext|>")[:60]))
    report = bittern_json("calibrate", STORIES, "--kv", "-o", stats, "--samples", 16)["kv"]
    assert report["recommended"] == "channel" and len(report["worst_k_layers_first"]) == 5

    def kl(granularity):
        params = tmp_path / f"{granularity}.safetensors"
        bittern("kv-params", stats, "-o", params, "--granularity", granularity)
        return bittern_json("eval", "kl", STORIES, "--reference", STORIES, "--data", text, "--kv-cache", "int8-static",
                            "--kv-params", params, "--reference-kv-cache", "f32")["kl"]["kl"]["mean"]  # fmt: skip

    assert kl("channel") < 0.5 * kl("layer")
