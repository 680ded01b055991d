"""calibrate and kv-params on the embedded model: provenance, merging, resuming after a kill, the static cache in use."""

import hashlib
import signal
import subprocess
import time

import pytest
from conftest import MINI, PROGRAM, ROOT, bittern, bittern_json, clean_environment

TEXT = ROOT / "models" / "calibration" / "text.txt"
SMALL = ("--samples", 4, "--seqlen", 64)


@pytest.fixture(scope="module")
def stats(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrate") / "stats.safetensors"
    bittern("calibrate", "--kv", "--samples", 16, "--seqlen", 256, "-o", path)
    return path


def test_built_in_text_is_named(tmp_path):
    report = bittern_json("calibrate", *SMALL, "-o", tmp_path / "s.safetensors")
    assert report["provenance"]["data_sha256"] == hashlib.sha256(TEXT.read_bytes()).hexdigest()
    assert report["provenance"]["tokens"] == 4 * 64
    assert report["layers"] == 6 and report["linears"] == 42 and "kv" not in report
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_kv_params_serve_a_static_cache(tmp_path, stats):
    params = tmp_path / "kv_params.safetensors"
    report = bittern_json("kv-params", stats, "-o", params)
    assert report["granularity"] == report["recommended"] and report["error"] == "measured"
    kl = bittern_json("eval", "kl", "--data", MINI / "text" / "heldout.txt", "--limit", 2, "--kv-cache", "int8-static",
                      "--kv-params", params, "--reference-kv-cache", "f32")["kl"]  # fmt: skip
    assert 0 < kl["kl"]["mean"] < 1e-3
    answer = bittern("generate", "-p", "Hello!", "--temperature", 0, "--kv-cache", "int8-static", "--kv-params", params)
    assert answer.stdout.strip()


def test_static_cache_without_parameters_is_refused():
    result = bittern("generate", "-p", "Hello!", "--kv-cache", "int8-static", check=None)
    assert result.returncode != 0 and "bittern kv-params" in result.stderr


def test_parameters_for_another_format_are_refused(tmp_path, stats):
    params = tmp_path / "kv_params.safetensors"
    bittern("kv-params", stats, "-o", params, "--granularity", "channel", "--symmetric")
    result = bittern("generate", "-p", "Hello!", "--kv-params", params, check=None)
    assert result.returncode != 0 and "int8-static" in result.stderr


def test_merging_adds_up(tmp_path):
    a, b, both = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "both"))
    bittern("calibrate", "--kv", *SMALL, "-o", a)
    bittern("calibrate", "--kv", *SMALL, "--seed", 1, "-o", b)
    report = bittern_json("calibrate", "--merge", a, b, "-o", both)
    assert report["provenance"]["tokens"] == 2 * 4 * 64 and report["provenance"]["seed"] == "0 + 1"
    assert report["kv"]["error"] == "expected"


def test_killed_run_resumes(tmp_path):
    out, whole = tmp_path / "s.safetensors", tmp_path / "whole.safetensors"
    options = ("calibrate", "--samples", "48", "--seqlen", "512", "--threads", "1", "-o")
    process = subprocess.Popen([str(PROGRAM), *options, str(out)], env=clean_environment(), stderr=subprocess.DEVNULL)
    state = tmp_path / "s.safetensors.state"
    while not (state / "layer-1.safetensors").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists() and not out.exists(), "the run ended before it could be killed"
    assert "--resume" in bittern(*options, out, check=None).stderr
    assert bittern_json(*options, out, "--resume")["resumed_layers"] >= 1
    bittern(*options, whole)
    assert out.read_bytes() == whole.read_bytes() and not state.exists()


@pytest.mark.parametrize("name, text, word", [("a.parquet", "PAR1", "Parquet"), ("a.txt", "Hello", "too few"), ("a.jsonl", "{}\n", "line 1")])
def test_data_is_refused_by_name(tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    result = bittern("calibrate", "--data", tmp_path / name, "-o", tmp_path / "s", check=None)
    assert result.returncode != 0 and word in result.stderr and name in result.stderr


def test_parquet_and_a_column_of_it(tmp_path):
    folder = ROOT / "tests" / "golden" / "parquet"

    def counted(name, *options):
        report = bittern_json("calibrate", "--data", folder / name, "-o", tmp_path / name, "--seqlen", 64, "--overwrite", *options)
        return report["provenance"]["data"], report["provenance"]["samples"]

    assert counted("text_snappy.parquet") == ("text_snappy.parquet", 12)
    assert counted("messages_zstd.parquet") == ("messages_zstd.parquet", 6)
    assert counted("conversations.parquet") == ("conversations.parquet", 6)
    assert counted("body.parquet", "--column", "body") == ("body.parquet:body", 12)
    refused = bittern("calibrate", "--data", folder / "body.parquet", "-o", tmp_path / "s", check=None)
    assert refused.returncode != 0 and "it has: body, title" in refused.stderr


def test_existing_output_is_not_touched(stats):
    before = stats.read_bytes()
    assert "--overwrite" in bittern("calibrate", "-o", stats, check=None).stderr
    assert stats.read_bytes() == before
