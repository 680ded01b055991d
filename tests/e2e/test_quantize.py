"""quantize: the written checkpoint read with numpy alone, by AutoAWQ's documented bit order; refusals; atomic output."""

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import MINI, PROGRAM, ROOT, bittern, bittern_json, clean_environment

sys.path.insert(0, str(ROOT / "tools"))
from awq_reference import read_safetensors, verify  # noqa: E402


@pytest.mark.parametrize("group", [128, 64, 32])
def test_every_tensor_equals_numpys(tmp_path, group):
    out = tmp_path / "w4"
    report = bittern_json("quantize", "-o", out, "--group-size", group)
    losses = verify(MINI, out)
    assert len(losses) == 7 * 6
    assert {linear["name"]: linear["nmse"] for linear in report["linears"]} == pytest.approx(losses, rel=1e-6)


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


@pytest.mark.parametrize("algorithm", ["awq", "gptq"])
def test_calibrated_algorithms_lose_less_than_rounding(tmp_path, mini_w4, algorithm):
    out = tmp_path / "out"
    report = bittern_json("quantize", "-o", out, "--algorithm", algorithm, "--samples", 24, "--seqlen", 256)
    assert report["plan"]["calibration"]["tokens"] == 24 * 256
    assert sum(x["loss_after"] for x in report["linears"]) < 0.9 * sum(x["loss_before"] for x in report["linears"])

    def kl(model):
        text = MINI / "text" / "heldout.txt"
        return bittern_json("eval", "kl", model, "--data", text, "--limit", 8)["kl"]["kl"]["mean"]

    assert kl(out) < 0.9 * kl(mini_w4)


def test_calibration_options_are_refused_where_nothing_reads_them(tmp_path):
    result = bittern("quantize", "-o", tmp_path / "out", "--samples", 4, check=None)
    assert result.returncode == 2 and "--samples" in result.stderr and "rtn" in result.stderr


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
        assert all(p.name == "w4.lock" or p.name.startswith("w4.partial-") for p in tmp_path.iterdir())


def test_dry_run_writes_nothing(tmp_path):
    plan = bittern_json("quantize", "-o", tmp_path / "w4", "--dry-run")
    assert plan["linears"] == 42 and not (tmp_path / "w4").exists()


def test_html_report_has_every_linear_and_needs_its_folder(tmp_path):
    page = tmp_path / "report.html"
    report = bittern_json("quantize", "-o", tmp_path / "w4", "--html", page)
    html = page.read_text()
    assert all(f"<td>{linear['name']}</td>" in html for linear in report["linears"])
    assert "src=" not in html and "href=" not in html
    missing = tmp_path / "missing" / "report.html"
    result = bittern("quantize", "-o", tmp_path / "again", "--html", missing, check=None)
    assert result.returncode != 0 and str(missing.parent) in result.stderr
    assert not (tmp_path / "again").exists()
    result = bittern("quantize", "-o", tmp_path / "again", "--html", page, "--dry-run", check=None)
    assert result.returncode != 0 and "--dry-run" in result.stderr
