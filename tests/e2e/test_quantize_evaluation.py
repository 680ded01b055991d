"""The end of a quantization: what it cost on held-out text, and that one output has one writer."""

import hashlib
import os
import pathlib
import signal
import subprocess
import time

import pytest
from conftest import MINI, PROGRAM, ROOT, bittern, bittern_json, clean_environment

HELD_OUT = ROOT / "models" / "calibration" / "heldout.txt"
SHARED = pathlib.Path(os.environ.get("BITTERN_SHARED_DATA", ROOT.parent / "shared" / "data"))


def test_it_ends_with_what_eval_would_measure(tmp_path):
    out = tmp_path / "w4"
    report = bittern_json("quantize", MINI, "-o", out)
    quality = report["quality"]
    assert report["plan"]["evaluation"]["windows"] == quality["windows"] == 16
    assert quality["tokens"] == 16 * 255 and quality["context"] == 512
    assert quality["sha256"] == hashlib.sha256(HELD_OUT.read_bytes()).hexdigest()
    expected = bittern_json("eval", "kl", out, "--reference", MINI, "--data", HELD_OUT, "--limit", 16, "--kv-cache", "f32",
                            "--reference-kv-cache", "f32")["kl"]  # fmt: skip
    assert quality["tokens"] == expected["candidate"]["tokens"]
    assert quality["kl"]["value"] == pytest.approx(expected["kl"]["mean"], rel=1e-3)
    assert quality["kl_max"] == pytest.approx(expected["max_kl"], rel=1e-2)
    assert quality["perplexity"]["value"] == pytest.approx(expected["candidate"]["perplexity"], rel=1e-5)
    assert quality["reference_perplexity"]["value"] == pytest.approx(expected["reference"]["perplexity"], rel=1e-5)
    assert quality["same_top"]["value"] == pytest.approx(expected["same_top"]["mean"], abs=2e-3)
    percentiles = [p["kl"] for p in quality["kl_percentiles"]]
    assert percentiles == sorted(percentiles) and percentiles[-1] <= quality["kl_max"]
    assert [p.name for p in tmp_path.iterdir()] == ["w4"]


def test_the_embedded_model_is_measured_on_its_own_kind_of_text(tmp_path):
    quality = bittern_json("quantize", "-o", tmp_path / "w4", "--eval-tokens", 1024)["quality"]
    assert quality["sha256"] == hashlib.sha256((MINI / "text" / "heldout.txt").read_bytes()).hexdigest()
    assert quality["reference_perplexity"]["value"] < 3 and 0 < quality["kl"]["value"] < 0.02


def test_the_terminal_and_the_page_tell_it_too(tmp_path):
    page = tmp_path / "report.html"
    result = bittern("quantize", "-o", tmp_path / "w4", "--html", page, "--eval-tokens", 1024)
    assert "KL divergence: mean" in result.stdout and "same most likely token" in result.stdout
    assert "510 tokens scored in 2 windows of 512" in result.stdout
    assert "2 windows of 512 tokens" in result.stderr  # the plan
    assert "510 tokens scored" in page.read_text() and "What it cost" in page.read_text()


def test_text_of_ones_own(tmp_path):
    text = MINI / "text" / "heldout.txt"
    quality = bittern_json("quantize", "-o", tmp_path / "w4", "--eval-data", text, "--eval-tokens", 512)["quality"]
    assert quality["name"] == str(text) and quality["windows"] == 1
    assert quality["reference_perplexity"]["value"] < 3  # the model's own kind of text


def test_no_evaluation(tmp_path):
    report = bittern_json("quantize", "-o", tmp_path / "w4", "--no-eval")
    assert report["quality"] is None and "--no-eval" in report["quality_absent"]
    assert report["plan"]["evaluation"]["windows"] == 0
    result = bittern("quantize", "-o", tmp_path / "w4", "--no-eval", "--eval-tokens", 512, check=None)
    assert result.returncode != 0 and "--eval-tokens" in result.stderr


@pytest.mark.parametrize("contents", ["", "Too short for one window."])
def test_text_that_will_not_do_is_refused_before_the_work(tmp_path, contents):
    text = tmp_path / "text.txt"
    text.write_text(contents)
    result = bittern("quantize", "-o", tmp_path / "w4", "--eval-data", text, check=None)
    assert result.returncode != 0 and not (tmp_path / "w4").exists()
    assert "empty" in result.stderr if not contents else "one window takes 512" in result.stderr


def test_a_second_run_to_the_same_output_is_refused(tmp_path):
    out = tmp_path / "w4"
    command = [str(PROGRAM), "quantize", "-o", str(out), "--algorithm", "awq", "--threads", "1"]
    first = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "w4.resume").exists() and time.monotonic() < deadline and first.poll() is None:
            time.sleep(0.01)
        second = bittern("quantize", "-o", out, "--no-eval", check=None)
        assert first.poll() is None, "the first run ended too early to show anything"
        assert second.returncode == 2 and f"process {first.pid}" in second.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert (tmp_path / "w4.lock").exists()  # a file, but no lock
    bittern("quantize", "-o", out, "--no-eval")
    assert not (tmp_path / "w4.lock").exists()


def test_show_names_the_types_of_gguf(tmp_path):
    for kind in ("q8_0", "q4_k"):
        path = tmp_path / f"{kind}.gguf"
        bittern("convert", "-o", path, "--type", kind)
        report = bittern_json("show", path)
        types = {entry["format"].lower(): entry for entry in report["formats"]}
        assert kind in types and "unknown" not in types
        assert types[kind]["leaves"] >= 30 and 4 < types[kind]["bits_per_weight"] < 9
        assert sum(entry["bytes"] for entry in report["formats"]) == report["bytes"]


@pytest.mark.skipif(not (SHARED / "gguf").is_dir(), reason=f"absent: {SHARED}/gguf")
def test_show_reads_a_gguf_of_others():
    report = bittern_json("show", SHARED / "gguf" / "llama-2-tiny-random.gguf")
    assert {entry["format"] for entry in report["formats"]} == {"f16", "f32"}


def test_show_tells_bits_and_groups_from_what_is_stored(tmp_path, mini_w4):
    assert {entry["format"] for entry in bittern_json("show", mini_w4)["formats"]} == {"bf16", "int4 g128"}
    out = tmp_path / "ct"
    bittern("quantize", "-o", out, "--format", "compressed-tensors", "--group-size", 64, "--no-eval")
    assert "int4 g64" in {entry["format"] for entry in bittern_json("show", out)["formats"]}
