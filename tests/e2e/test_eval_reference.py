"""eval ppl and kl against tools/quality_reference.py: a float64 network, tokenizer and scorer of its own in numpy."""

import json
import os
import shutil
import struct
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads would wait for each other
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from conftest import MINI, ROOT, bittern_json  # noqa: E402

sys.path.insert(0, str(ROOT / "tools"))
from quality_reference import Tokenizer, measure  # noqa: E402

SHARED = Path(os.environ.get("BITTERN_SHARED_DATA", ROOT / ".." / "shared" / "data"))
STORIES = SHARED / "models" / "stories260K"
EXACT = ("--kv-cache", "f32", "--compute", "f32")


def texts(name: str) -> str:
    if name == "mini":
        return (MINI / "text" / "heldout.txt").read_text()[:4500]
    text = (SHARED / "text" / "tinystories.txt").read_text().replace("<|endoftext|>", "\n")
    return "".join(c for c in text[:3000] if c.isascii())


@pytest.fixture(params=["mini", "stories260K"])
def case(request, tmp_path):
    """(model, file with text, context)."""
    if request.param == "stories260K" and not STORIES.exists():
        pytest.skip(f"absent: {STORIES} (set BITTERN_SHARED_DATA to a folder that has it)")
    file = tmp_path / "text.txt"
    file.write_text(texts(request.param))
    return (MINI if request.param == "mini" else STORIES), file, 256


def coarse_copy(source: Path, out: Path) -> Path:
    """The checkpoint with three bits of mantissa left of each linear's weights."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*.log", "*.py", "text", "tasks", "__pycache__"))
    data = bytearray((source / "model.safetensors").read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(bytes(data[8 : 8 + length])).items():
        if not name.endswith("proj.weight"):
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        kind, mask = {"BF16": ("<u2", 0xFFF0), "F32": ("<u4", 0xFFF00000)}[entry["dtype"]]
        data[begin:end] = (np.frombuffer(bytes(data[begin:end]), kind) & np.array(mask, kind)).tobytes()
    (out / "model.safetensors").write_bytes(data)
    return out


def near(value, rel=1e-4, absolute=1e-12):
    return pytest.approx(value, rel=rel, abs=absolute)


@pytest.mark.parametrize("stride", [0, 100])
def test_perplexity_equals_float64(case, stride):
    model, file, context = case
    got = bittern_json("eval", "ppl", model, "--data", file, "--context", context, "--stride", stride, *EXACT)["ppl"]
    want = measure(model, file.read_text(), context=context, stride=stride)
    assert got["tokens"] == want["tokens"] > 300
    assert got["perplexity"] == near(want["perplexity"])
    assert got["perplexity_standard_error"] == near(want["perplexity_standard_error"])


def test_divergence_equals_float64(case, tmp_path):
    model, file, context = case
    coarse = coarse_copy(model, tmp_path / "coarse")
    got = bittern_json("eval", "kl", coarse, "--reference", model, "--data", file, "--context", context, *EXACT,
                       "--reference-kv-cache", "f32")["kl"]
    want = measure(coarse, file.read_text(), model, context)
    summary = got["summary"]
    assert got["reference"]["tokens"] == want["tokens"] > 300
    assert got["kl"]["mean"] == near(want["kl"]) and want["kl"] > 1e-4
    assert summary["kl"]["value"] == got["kl"]["mean"]
    assert summary["kl"]["standard_error"] == near(want["kl_standard_error"])
    assert got["max_kl"] == near(want["max_kl"])
    assert summary["candidate_perplexity"]["value"] == near(want["perplexity"])
    assert summary["reference_perplexity"]["value"] == near(want["reference_perplexity"])
    assert summary["log_perplexity_ratio"]["value"] == near(want["log_perplexity_ratio"], absolute=1e-6)
    assert summary["rms_delta_p"]["value"] == near(want["rms_delta_p"])
    assert summary["delta_p"]["value"] == near(want["delta_p"], absolute=1e-6)
    assert got["same_top"]["mean"] == near(want["same_top"], absolute=1.5 / want["tokens"])  # one tie may fall either way
    # The smallest divergences are near what f32 logits resolve.
    for name, value in want["kl_percentiles"].items():
        assert summary["kl_percentiles"][name] == near(value, absolute=2e-8), name
    # A probability follows its logit at first order, and f32 logits of this size are good to about 1e-5.
    for name, value in want["delta_p_percentiles"].items():
        assert summary["delta_p_percentiles"][name] == near(value, absolute=1e-5), name


def test_the_references_encoder_is_huggingfaces(case):
    tokenizers = pytest.importorskip("tokenizers")
    model, file, _ = case
    text = file.read_text()
    assert Tokenizer(model).encode(text) == tokenizers.Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids


def test_the_network_is_huggingfaces(case):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from quality_reference import Llama

    model, file, _ = case
    ids = Tokenizer(model).encode(file.read_text())[:200]
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    with torch.no_grad():
        expected = network(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(Llama(model).logits(ids) - expected).max() < 1e-4  # transformers rotates in float32
