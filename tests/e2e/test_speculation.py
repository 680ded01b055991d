"""--speculate: the same tokens as without, greedy or sampled, and fewer steps where the output repeats."""

import pytest
from conftest import bittern, bittern_json

REPEATING = ["Repeat after me: the quick brown fox jumps over the lazy dog.", "Count from 1 to 20.",
             "Tell me a short story about a dog."]
LONG = ("--max-tokens", 200, "--ignore-eos", "--deterministic")


@pytest.mark.parametrize("prompt", REPEATING)
@pytest.mark.parametrize("sampling", [("--temperature", 0), ("--temperature", 0.8, "--seed", 3),
                                      ("--temperature", 0.7, "--seed", 5, "--repetition-penalty", 1.1, "--logprobs", 2)])
def test_answers_stay_the_same(prompt, sampling):
    plain = bittern_json("generate", "-p", prompt, *sampling, *LONG)
    guessed = bittern_json("generate", "-p", prompt, *sampling, *LONG, "--speculate", "prompt-lookup=6")
    assert guessed["samples"] == plain["samples"]
    assert plain["drafted_tokens"] == 0


def test_repeating_output_takes_guesses():
    report = bittern_json("generate", "-p", REPEATING[0], "--temperature", 0, *LONG, "--speculate", "prompt-lookup")
    assert report["drafted_tokens"] >= report["accepted_tokens"] > 20


@pytest.mark.parametrize("value", ["draft-model", "prompt-lookup=0", "prompt-lookup=33", "prompt-lookup="])
def test_wrong_ways_are_refused(value):
    refused = bittern("generate", "-p", "Hi", "--speculate", value, check=2)
    assert "--speculate" in refused.stderr
