"""bench: every subcommand runs, its JSON holds what was asked for, and wrong requests are refused before any work."""

import json

import pytest
from conftest import bittern, bittern_json

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 256, "vocab_size": 512, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": False,
}
QUICK = ("--contexts", "16,32", "--batches", "1,3", "--batch-prompt", 8, "--output", 4, "--repeats", 2)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    return path


def check_machine(report, benchmark):
    assert report["benchmark"] == benchmark
    machine = report["machine"]
    assert machine["version"] and machine["commit"] and machine["cpu"] and machine["isa"] and machine["threads"] >= 1


def check_spread(spread, repeats):
    assert 0 < spread["low"] <= spread["median"] <= spread["high"] and spread["repeats"] == repeats


@pytest.mark.parametrize("weights", ["bf16", "w4a16", "w8a8"])
def test_latency_of_random_weights(config, weights):
    report = bittern_json("bench", "latency", "--random-weights", config, "--weights", weights, *QUICK)
    check_machine(report, "latency")
    results = report["results"]
    assert results["config"]["hidden_size"] == 128
    assert [row["context"] for row in results["contexts"]] == [16, 32]
    assert [row["sequences"] for row in results["batches"]] == [1, 3]
    for row in results["contexts"]:
        check_spread(row["prefill_tokens_per_second"], 2)
        check_spread(row["decode_tokens_per_second"], 2)
    multiplications = 2 * (128 * (128 + 2 * 64) + 128 * 128 + 3 * 128 * 256) + 512 * 128
    assert results["multiplications_per_token"] == multiplications
    assert report["limits"]["read_bytes_per_second"] > 1e8


def test_latency_of_a_model():
    results = bittern_json("bench", "latency", *QUICK)["results"]
    assert results["weight_bytes"] > results["weight_bytes_per_token"] > 0 or results["config"]["tie_word_embeddings"]


def test_throughput_counts_every_token(config):
    report = bittern_json("bench", "throughput", "--random-weights", config, "--requests", 6, "--prompt-tokens", "5:9",
                          "--output-tokens", "7", "--max-sequences", 2)
    check_machine(report, "throughput")
    results = report["results"]
    assert results["generated_tokens"] == 42 and 30 <= results["prompt_tokens"] <= 54
    assert results["steps"] >= 21  # two sequences at a time


def test_throughput_of_a_trace(config, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,20,4\n1,40,6\n2,10,2\n")
    options = ("bench", "throughput", "--random-weights", config, "--trace", trace)
    results = bittern_json(*options, "--requests", 2)["results"]
    assert (results["prompt_tokens"], results["generated_tokens"]) == (60, 10)
    results = bittern_json(*options, "--scale", 0.5)["results"]
    assert (results["requests"], results["prompt_tokens"], results["generated_tokens"]) == (3, 35, 6)
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,20,many\n")
    refused = bittern(*options, check=2)
    assert "trace.csv:2" in refused.stderr


def test_start_tells_first_token_and_memory():
    report = bittern_json("bench", "start", "--repeats", 2, "--context", 128)
    check_machine(report, "start")
    results = report["results"]
    check_spread(results["first_token_seconds"], 1)
    assert results["first_first_token_seconds"] > results["first_load_seconds"] > 0
    assert results["memory_plan"]["kv_cache"] > 0 and results["weights"] > 0


@pytest.mark.parametrize("option, value", [("--speculate", "nonsense"), ("--prefix-cache", "nonsense")])
def test_start_passes_its_options_on(option, value):
    refused = bittern("bench", "start", "--repeats", 1, option, value, check=None)
    assert refused.returncode != 0 and option in refused.stderr


@pytest.mark.parametrize("arguments, message", [
    (("latency", "--random-weights", "nothing-like-it"), "there is no configuration 'nothing-like-it'"),
    (("latency", "--random-weights", "qwen2.5-0.5b", "--weights", "w3"), "no weights of the format 'w3'"),
    (("latency", "--weights", "bf16"), "--random-weights"),
    (("latency", "some-model", "--random-weights", "qwen2.5-0.5b"), "both MODEL and --random-weights"),
    (("latency", "--kv-params", __file__, "--random-weights", "qwen2.5-0.5b"), "--kv-params"),
    (("latency", "--contexts", "0"), "--contexts"),
    (("throughput", "--prompt-tokens", "9:5"), "--prompt-tokens"),
    (("ops", "--parts", "everything"), "no part 'everything'"),
    (("ops", "--configs", "nothing-like-it"), "there is no configuration"),
    (("limits", "--compute", "int8"), "--compute"),
])
def test_wrong_requests_are_refused_by_name(arguments, message):
    refused = bittern("bench", *arguments, check=None)
    assert refused.returncode != 0 and message in refused.stderr
    assert "limits:" not in refused.stdout  # nothing was measured first
