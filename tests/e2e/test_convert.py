"""convert: workspaces written, run, edited and damaged; LMDeploy's workspaces read; GGUF files written."""

import json
import shutil
import struct

import pytest
from conftest import MINI, bittern, bittern_json
from lmdeploy_layout import write_workspace

PROMPT = "Tell me a short story about a dog."


def answer(model, *args, **kwargs):
    report = bittern_json("generate", model, "-p", PROMPT, "--temperature", 0, "--max-tokens", 24, "--logprobs", 3,
                          *args, **kwargs)
    return report["samples"][0]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    out = tmp_path_factory.mktemp("convert") / "ws"
    report = bittern_json("convert", MINI, "-o", out)
    assert report["weights_bytes"] == (out / "weights" / "packed.safetensors").stat().st_size
    return out


@pytest.fixture
def own(workspace, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(workspace, tmp_path / "own")


def edit(file, before, after):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


# --- workspaces ---


def test_a_workspace_answers_like_the_checkpoint(workspace, mini_w4, tmp_path):
    assert answer(workspace) == answer(MINI)
    bittern("convert", mini_w4, "-o", tmp_path / "w4")
    assert answer(tmp_path / "w4") == answer(mini_w4)


def test_skipped_linears_and_the_tied_head_travel(tmp_path):
    bittern("quantize", MINI, "-o", tmp_path / "w4", "--group-size", 128, "--skip", "down_proj")
    report = bittern_json("convert", tmp_path / "w4", "-o", tmp_path / "ws")
    assert report["formats"] == {"bf16": 7, "int4 g128": 36}  # six down_proj and the table, which is the head too
    assert "weight_type = mixed" in (tmp_path / "ws" / "weights" / "config.ini").read_text()
    assert answer(tmp_path / "ws") == answer(tmp_path / "w4")


def test_a_workspace_of_the_embedded_model(tmp_path):
    bittern("convert", "-o", tmp_path / "ws")
    assert answer(tmp_path / "ws") == answer(MINI)


def test_every_verb_takes_it(workspace, mini_w4, tmp_path):
    shown, plain = bittern_json("show", workspace), bittern_json("show", MINI)
    assert shown["parameters"] == plain["parameters"] and shown["layers"] == plain["layers"]
    assert shown["workspace"]["layout"] == "cpu-tiles16 version 1" and "workspace" not in plain
    assert "packed for" in bittern("show", workspace).stdout
    options = ("--data", MINI / "text" / "heldout.txt", "--limit", 2)
    assert bittern_json("eval", "ppl", workspace, *options)["ppl"] == bittern_json("eval", "ppl", MINI, *options)["ppl"]
    assert bittern_json("eval", "kl", workspace, "--reference", MINI, *options)["kl"]["kl"]["mean"] == 0
    bittern("quantize", workspace, "-o", tmp_path / "w4", "--group-size", 128)
    assert answer(tmp_path / "w4") == answer(mini_w4)
    bittern("chat", workspace, stdin="Hello\n\n")


def test_weights_are_mapped_and_start_is_reported(workspace):
    report = bittern_json("generate", workspace, "-p", "Hi", "--max-tokens", 2)
    start = report["start"]
    assert start["weights_mapped"] > 0.99 * start["weights"] > 0
    assert 0 < start["load_seconds"] < start["first_token_seconds"]
    assert start["resident_own"] > 0
    assert bittern_json("generate", MINI, "-p", "Hi", "--max-tokens", 2)["start"]["weights_mapped"] == 0
    stats = bittern("generate", workspace, "-p", "Hi", "--max-tokens", 2, "--stats").stderr
    assert "first token" in stats and "of them mapped" in stats


def test_another_backend_packs_anew_and_says_so(workspace):
    result = bittern("generate", workspace, "-p", "Hi", "--max-tokens", 2, "--temperature", 0, "--backend", "ref")
    assert "packed anew" in result.stderr and "ref" in result.stderr
    plain = bittern("generate", MINI, "-p", "Hi", "--max-tokens", 2, "--temperature", 0, "--backend", "ref")
    assert plain.stderr == "" and plain.stdout == result.stdout


@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_packed_for_one_level_and_run_on_another(tmp_path, isa):
    assert bittern_json("convert", MINI, "-o", tmp_path / "ws", "--level", isa)["level"] == isa
    assert answer(tmp_path / "ws") == answer(MINI)
    assert answer(tmp_path / "ws", "--isa", "generic") == answer(MINI, "--isa", "generic")


def test_levels_are_checked(tmp_path):
    assert "avx512vnni" in bittern("convert", MINI, "-o", tmp_path / "ws", "--level", "avx1024", check=2).stderr


def test_kv_parameters_travel(tmp_path):
    bittern("calibrate", MINI, "-o", tmp_path / "stats", "--kv", "--samples", 2, "--seqlen", 64)
    model = shutil.copytree(MINI, tmp_path / "model")
    bittern("kv-params", tmp_path / "stats", "-o", model)
    bittern("convert", model, "-o", tmp_path / "ws")
    options = ("--kv-cache", "int8-static")
    assert answer(tmp_path / "ws", *options) == answer(model, *options)
    edit(tmp_path / "ws" / "weights" / "config.ini", "quant_policy = 0", "quant_policy = 4")
    report = bittern("generate", tmp_path / "ws", "-p", "Hi", "--max-tokens", 2, "--json")
    assert json.loads(report.stdout)["memory"]["kv_format"] == "int8-static"
    assert "int8-static" in report.stderr


def test_dry_run_writes_nothing(tmp_path):
    report = bittern_json("convert", MINI, "-o", tmp_path / "ws", "--dry-run")
    assert report["dry_run"] and report["weights_bytes"] > 9_000_000
    assert not (tmp_path / "ws").exists()


def test_an_existing_output_is_kept(own):
    assert "--overwrite" in bittern("convert", MINI, "-o", own, check=2).stderr
    bittern("convert", MINI, "-o", own, "--overwrite", "--level", "generic")
    assert json.loads((own / "weights" / "manifest.json").read_text())["level"] == "generic"


def test_options_of_the_other_output_are_refused(tmp_path):
    assert "--type" in bittern("convert", MINI, "-o", tmp_path / "ws", "--type", "f16", check=2).stderr
    assert "--level" in bittern("convert", MINI, "-o", tmp_path / "m.gguf", "--level", "avx2", check=2).stderr
    assert "--output" in bittern("convert", MINI, check=2).stderr


# --- config.ini ---


def test_config_ini_changes_the_run(own):
    ini = own / "weights" / "config.ini"
    edit(ini, "quant_policy = 0", "quant_policy = 8")
    edit(ini, "session_len = 1024", "session_len = 256")
    edit(ini, "max_batch_size = 16", "max_batch_size = 1")
    edit(ini, "cache_block_seq_len = 64", "cache_block_seq_len = 32")
    memory = bittern_json("generate", own, "-p", "Hi", "--max-tokens", 2)["memory"]
    assert memory["kv_format"] == "int8"
    plain = bittern_json("generate", MINI, "-p", "Hi", "--max-tokens", 2, "--kv-cache", "int8", "--context", 256,
                         "--max-sequences", 1, "--block-tokens", 32)["memory"]
    assert memory == plain
    # What the command line says counts more.
    again = bittern_json("generate", own, "-p", "Hi", "--max-tokens", 2, "--kv-cache", "bf16")["memory"]
    assert again["kv_format"] == "bf16"


def test_config_ini_changes_the_model(own, workspace):
    edit(own / "weights" / "config.ini", "rope_theta = 10000.0", "rope_theta = 100.0")
    assert answer(own)["token_ids"] != answer(workspace)["token_ids"]


def test_policy_four_is_eight_bits(own):
    edit(own / "weights" / "config.ini", "quant_policy = 0", "quant_policy = 4")
    result = bittern("generate", own, "-p", "Hi", "--max-tokens", 2, "--json")
    assert json.loads(result.stdout)["memory"]["kv_format"] == "int8"
    assert "quant_policy = 4" in result.stderr and "8 bits" in result.stderr


@pytest.mark.parametrize("before, after, says", [
    ("session_len =", "sesion_len =", "did you mean 'session_len'"),
    ("session_len = 1024", "session_len = many", "session_len is 'many'"),
    ("num_layer = 6", "num_layer = 7", "num_layer is 7"),
    ("[llama]", "[lama]", "section [lama]"),
    ("session_len = 1024", "session_len = 4096", "4096"),
])
def test_mistakes_in_config_ini_are_named(own, before, after, says):
    edit(own / "weights" / "config.ini", before, after)
    assert says in bittern("generate", own, "-p", "Hi", check=2).stderr


# --- damage ---


def test_verify(own):
    assert bittern_json("convert", "--verify", own)["wrong"] == []
    packed = own / "weights" / "packed.safetensors"
    data = bytearray(packed.read_bytes())
    data[-5000] ^= 1
    packed.write_bytes(data)
    result = bittern("convert", "--verify", own, check=None)
    assert result.returncode != 0 and "packed.safetensors: model." in result.stderr and "--overwrite" in result.stderr


def test_a_truncated_workspace_is_refused_at_start(own):
    packed = own / "weights" / "packed.safetensors"
    packed.write_bytes(packed.read_bytes()[:-1])
    assert "the manifest says" in bittern("generate", own, "-p", "Hi", check=None).stderr


def test_verify_is_for_workspaces():
    assert "not a workspace" in bittern("convert", "--verify", MINI, check=2).stderr


def test_checksums_are_those_of_sha256sum(workspace):
    import hashlib

    for line in (workspace / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((workspace / name).read_bytes()).hexdigest() == digest
    manifest = json.loads((workspace / "weights" / "manifest.json").read_text())
    data = (workspace / "weights" / "packed.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    for name, digest in manifest["sha256"].items():
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        assert hashlib.sha256(data[begin:end]).hexdigest() == digest, name
        if name.endswith(".packed"):
            assert begin % 4096 == 0, name


# --- LMDeploy's workspaces ---


@pytest.mark.parametrize("parts", [1, 2])
def test_an_lmdeploy_workspace_answers_like_its_checkpoint(tmp_path, parts):
    write_workspace(MINI, tmp_path / "old", parts)
    expected = answer(MINI)
    assert answer(tmp_path / "old") == expected
    bittern("convert", tmp_path / "old", "-o", tmp_path / "new")
    assert answer(tmp_path / "new") == expected
    bittern("convert", tmp_path / "old", "-o", tmp_path / "old.gguf", "--type", "bf16")
    assert answer(tmp_path / "old.gguf")["token_ids"] == expected["token_ids"]


def test_an_lmdeploy_workspace_with_static_kv_parameters(tmp_path):
    weights = write_workspace(MINI, tmp_path / "old", quant_policy=4)
    report = bittern("generate", tmp_path / "old", "-p", "Hi", "--max-tokens", 2, "--json")
    assert json.loads(report.stdout)["memory"]["kv_format"] == "int8" and "no calibrated" in report.stderr
    for layer in range(6):
        (weights / f"layers.{layer}.past_kv_scale.0.weight").write_bytes(struct.pack("<4f", 0.1, 0.0, 0.1, 0.0))
    report = bittern("generate", tmp_path / "old", "-p", "Hi", "--max-tokens", 2, "--json")
    assert json.loads(report.stdout)["memory"]["kv_format"] == "int8-static"


def test_an_lmdeploy_workspace_in_4_bits_is_refused_by_name(tmp_path):
    write_workspace(MINI, tmp_path / "old", weight_type="int4", group_size=128)
    result = bittern("show", tmp_path / "old", check=69)
    assert "scales_zeros" in result.stderr and "AWQ" in result.stderr


# --- GGUF ---


@pytest.mark.parametrize("kind, bits", [("f16", 16), ("bf16", 16), ("q8_0", 8.5), ("q4_0", 5), ("q4_k", 5)])
def test_gguf(tmp_path, kind, bits):
    out = tmp_path / "mini.gguf"
    planned = bittern_json("convert", MINI, "-o", out, "--type", kind, "--dry-run")
    assert not out.exists()
    report = bittern_json("convert", MINI, "-o", out, "--type", kind)
    assert planned | {"dry_run": False} == report
    assert 8 * report["bytes"] / report["parameters"] <= bits * 1.25
    assert out.stat().st_size > report["bytes"]
    if bits == 16 and kind == "bf16":
        assert answer(out)["token_ids"] == answer(MINI)["token_ids"]
    else:
        assert len(answer(out)["token_ids"]) > 0
    assert "--overwrite" in bittern("convert", MINI, "-o", out, check=2).stderr


def test_a_gguf_file_becomes_a_workspace(tmp_path):
    bittern("convert", MINI, "-o", tmp_path / "mini.gguf", "--type", "q4_0")
    planned = bittern_json("convert", tmp_path / "mini.gguf", "-o", tmp_path / "ws", "--dry-run")
    made = bittern_json("convert", tmp_path / "mini.gguf", "-o", tmp_path / "ws")
    assert planned["weights_bytes"] == pytest.approx(made["weights_bytes"], rel=0.05)
    assert answer(tmp_path / "ws") == answer(tmp_path / "mini.gguf")


def test_unknown_gguf_types_are_listed(tmp_path):
    assert "q4_k" in bittern("convert", MINI, "-o", tmp_path / "m.gguf", "--type", "q4_m", check=2).stderr
