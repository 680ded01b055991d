"""A GGUF file from end to end: its metadata alone give tokenizer, chat template and ends, so it answers as the checkpoint does."""

import pytest
from conftest import MINI, bittern, bittern_json

TALK = "Hello! What is 12 + 7?\n/exit\n"


@pytest.fixture(scope="module")
def bf16(tmp_path_factory):
    out = tmp_path_factory.mktemp("gguf") / "mini.gguf"
    bittern("convert", MINI, "-o", out, "--type", "bf16")
    return out


def answer(model, *options):
    return bittern_json("generate", model, "-p", "What is 12 + 7?", "--temperature", 0, "--max-tokens", 32, *options)


def test_the_template_and_the_ends_come_from_the_metadata(bf16):
    ours, theirs = answer(bf16), answer(MINI)
    assert ours["samples"] == theirs["samples"]
    assert ours["prompt_tokens"] == theirs["prompt_tokens"]
    assert ours["samples"][0]["finish_reason"] == "stop"
    assert answer(bf16, "--raw")["prompt_tokens"] < ours["prompt_tokens"], "the template adds tokens"


def test_chat(bf16):
    ours = bittern("chat", bf16, "--temperature", 0, stdin=TALK)
    theirs = bittern("chat", MINI, "--temperature", 0, stdin=TALK)
    assert ours.stdout == theirs.stdout and ours.stdout.strip()


@pytest.mark.parametrize("kind,most", [("q8_0", 1e-4), ("q4_k", 5e-3)])
def test_quantized_files_chat(tmp_path, bf16, kind, most):
    out = tmp_path / "mini.gguf"
    bittern("convert", MINI, "-o", out, "--type", kind)
    assert out.stat().st_size < bf16.stat().st_size
    sample = answer(out)["samples"][0]
    assert sample["finish_reason"] == "stop" and sample["text"].strip()
    report = bittern_json("eval", "kl", out, "--data", MINI / "text" / "heldout.txt", "--context", 256, "--limit", 4)
    assert 0 < report["kl"]["kl"]["mean"] < most
