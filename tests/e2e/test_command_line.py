"""The command line: help, versions, spelling, exit statuses, options from the environment and from a file."""

import pytest
from conftest import bittern, bittern_json

VERBS = ["chat", "generate", "quantize", "eval", "show", "env"]


def test_version(program):
    assert bittern("--version").stdout.startswith("bittern ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    assert "--" in bittern(verb, "--help").stdout


def test_no_verb_is_a_usage_error():
    assert "--help" in bittern(check=2).stderr


def test_unknown_verb_names_the_nearest():
    assert "quantize" in bittern("quantise", check=2).stderr


def test_unknown_option_names_the_nearest():
    result = bittern("generate", "-p", "x", "--temprature", "1", check=2)
    assert "--temperature" in result.stderr


def test_bad_value_names_the_option():
    assert "--threads" in bittern("generate", "-p", "x", "--threads", "many", check=2).stderr


def test_option_from_the_environment():
    env = bittern_json("env", env={"BITTERN_THREADS": "1"})
    assert "1 thread" in env["backend"]


def test_option_from_a_file(tmp_path):
    config = tmp_path / "bittern.toml"
    config.write_text("[generate]\nmax-tokens = 3\nignore-eos = true\ntemperature = 0\n")
    out = bittern("--config", config, "generate", "-p", "Hello", "--json")
    assert '"generated_tokens": 3' in out.stdout


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_forced_instruction_set_is_used_or_refused(isa):
    result = bittern("env", "--isa", isa, check=None)
    if result.returncode == 0:
        assert isa in result.stdout
    else:
        assert isa in result.stderr


@pytest.mark.parametrize("compute, kernel", [("bf16", "bf16dot"), ("int8", "int8dot")])
def test_rounding_kernels_run_only_when_asked(compute, kernel):
    def kernels(*options, check=0):
        return bittern("env", *options, check=check)

    assert kernel not in kernels().stdout
    asked = kernels("--compute", compute, check=None)
    if asked.returncode == 0:
        assert kernel in asked.stdout
    else:
        assert "needs avx512" in asked.stderr
    assert compute in kernels("--compute", compute, "--isa", "generic", check=69).stderr


def test_unknown_backend_lists_those_there_are():
    result = bittern("env", "--backend", "tpu", check=2)
    assert "cpu" in result.stderr and "ref" in result.stderr


def test_cuda_is_refused_with_the_reason():
    result = bittern("generate", "-p", "x", "--backend", "cuda", check=69)
    assert "CUDA" in result.stderr


def test_missing_model_says_where_it_looked():
    result = bittern("show", "no/such-model", check=66)
    assert "no/such-model" in result.stderr and "cache" in result.stderr


def test_show_embedded_model():
    report = bittern_json("show")
    assert report["architecture"] == "LlamaForCausalLM"
    assert report["parameters"] == sum(part["parameters"] for part in report["parts"])
    assert report["bytes"] == 2 * report["parameters"]  # bf16
