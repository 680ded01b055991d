"""generate: prompts, sampling, stopping, JSON, interruption."""

import signal
import subprocess
import time

import pytest
from conftest import PROGRAM, bittern, bittern_json, clean_environment

PROMPT = "Tell me a short story about a dog."


def greedy(*args, **kwargs):
    return bittern_json("generate", "-p", PROMPT, "--temperature", 0, *args, **kwargs)


def test_prompt_from_option_file_and_stdin_agree(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT)
    options = ("--temperature", 0, "--max-tokens", 20, "--json")
    texts = {
        bittern("generate", "-p", PROMPT, *options).stdout.split('"seed"')[0],
        bittern("generate", "--prompt-file", file, *options).stdout.split('"seed"')[0],
        bittern("generate", *options, stdin=PROMPT).stdout.split('"seed"')[0],
    }
    assert len(texts) == 1


def test_streamed_text_equals_the_json():
    text = bittern("generate", "-p", PROMPT, "--temperature", 0, "--max-tokens", 60).stdout
    assert text == greedy("--max-tokens", 60)["samples"][0]["text"] + "\n"


def test_same_seed_same_answer_alone_or_with_others():
    alone = bittern_json("generate", "-p", PROMPT, "--seed", 7, "--max-tokens", 40)
    again = bittern_json("generate", "-p", PROMPT, "--seed", 7, "--max-tokens", 40, "--n", 3)
    assert again["samples"][0]["token_ids"] == alone["samples"][0]["token_ids"]
    assert len({tuple(s["token_ids"]) for s in again["samples"]}) > 1


def test_a_drawn_seed_is_reported_and_repeats():
    first = bittern_json("generate", "-p", PROMPT, "--max-tokens", 30)
    again = bittern_json("generate", "-p", PROMPT, "--max-tokens", 30, "--seed", first["seed"] % 2**63)
    if first["seed"] < 2**63:
        assert first["samples"] == again["samples"]


def test_max_tokens_is_reported_as_length():
    sample = greedy("--max-tokens", 5, "--ignore-eos")["samples"][0]
    assert sample["finish_reason"] == "length" and len(sample["token_ids"]) == 5


def test_min_tokens_with_ignore_eos():
    assert len(greedy("--min-tokens", 90, "--max-tokens", 100)["samples"][0]["token_ids"]) >= 90


def test_stop_text_across_tokens_is_left_out_and_named():
    text = greedy("--max-tokens", 60)["samples"][0]["text"]
    stop = text[10:16]
    sample = greedy("--max-tokens", 60, "--stop", stop)["samples"][0]
    assert sample["finish_reason"] == "stop" and sample["stop"] == stop
    assert sample["text"] == text[: text.index(stop)]
    kept = greedy("--max-tokens", 60, "--stop", stop, "--include-stop")["samples"][0]["text"]
    assert kept == text[: text.index(stop)] + stop


def test_logit_bias_forbids_a_token():
    first = greedy("--max-tokens", 1)["samples"][0]["token_ids"][0]
    other = greedy("--max-tokens", 1, "--logit-bias", f"{first}=-100")["samples"][0]["token_ids"][0]
    assert other != first


def test_logprobs_are_a_distribution_and_sorted():
    sample = greedy("--max-tokens", 4, "--logprobs", 5)["samples"][0]
    for token in sample["logprobs"]:
        values = [top["logprob"] for top in token["top"]]
        assert len(values) == 5 and values == sorted(values, reverse=True)
        assert token["logprob"] == pytest.approx(values[0]) and values[0] <= 0


@pytest.mark.parametrize(
    "option, value",
    [("--top-p", "0"), ("--top-p", "1.5"), ("--temperature", "-1"), ("--min-p", "2"), ("--presence-penalty", "3"), ("--logit-bias", "x")],
)
def test_values_out_of_range_are_refused_by_name(option, value):
    result = bittern("generate", "-p", "x", option, value, check=2)
    assert option.strip("-").replace("-", "_") in result.stderr.replace("-", "_")


def test_prompt_longer_than_the_context_is_refused():
    result = bittern("generate", "-p", "word " * 3000, check=2)
    assert "context" in result.stderr or "long" in result.stderr


@pytest.mark.parametrize("kv", ["f32", "f16", "bf16", "int8", "int4"])
def test_every_kv_cache_format_generates(kv):
    assert len(greedy("--kv-cache", kv, "--max-tokens", 8, "--ignore-eos")["samples"][0]["token_ids"]) == 8


def test_unknown_kv_cache_format_lists_those_there_are():
    assert "int8" in bittern("generate", "-p", "x", "--kv-cache", "int3", check=2).stderr


def test_cpu_equals_ref():
    ids = [greedy("--backend", backend, "--kv-cache", "f32", "--max-tokens", 24)["samples"][0]["token_ids"] for backend in ("cpu", "ref")]
    assert ids[0] == ids[1]


def test_interrupt_ends_the_program_with_its_status():
    process = subprocess.Popen(
        [str(PROGRAM), "generate", "-p", PROMPT, "--ignore-eos", "--max-tokens", "900", "--backend", "ref"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=clean_environment(),
    )
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - start < 30
