"""Tests of the corpus and the optimizer: run `pytest models/mini` in an environment with requirements.txt and pytest.

Main idea: the promises that scores rest on are checked from outside: held-out tasks match no training draw, the committed
answers are right by independent arithmetic, and rows are pure functions of their step. The trained weights are not tested here.
"""
import json
import random
import re

import pytest
import torch

import corpus
import muon
import tasks

ITEMS = [json.loads(line) for line in (corpus.HERE / "tasks/heldout.jsonl").read_text().splitlines()]


def items_of(kind):
    found = [i for i in ITEMS if i["kind"] == kind]
    assert found, kind
    return found


def question(item):
    return item["messages"][-1]["content"]


def listed(item):
    return question(item).rstrip("?").split(": ")[1].split(", ")


def test_training_never_draws_a_held_out_task():
    rng = random.Random(1)
    held_out = {question(i) for i in ITEMS}
    for _ in range(20000):
        task = tasks.draw_short(rng)
        assert not task.held_out()
        assert task.turns[-1][0] not in held_out


def test_training_never_tells_a_held_out_story():
    told = (corpus.HERE / "text/heldout.txt").read_text()
    rng = random.Random(2)
    assert not any(corpus.draw_story(rng) in told for _ in range(2000))


@pytest.mark.parametrize("kind,compute", [("add", sum), ("subtract", lambda n: abs(n[0] - n[1]))])
def test_arithmetic_answers(kind, compute):
    for item in items_of(kind):
        assert int(item["answer"]) == compute([int(n) for n in re.findall(r"\d+", question(item))])


@pytest.mark.parametrize("kind,compute", [("sort_words", sorted), ("reverse_words", lambda w: w[::-1])])
def test_list_answers(kind, compute):
    for item in items_of(kind):
        assert item["answer"].split(", ") == compute(listed(item))


def test_count_answers():
    for item in items_of("count_items"):
        assert int(item["answer"]) == len(listed(item))


@pytest.mark.parametrize("kind", ["recall_value", "recall_sentence", "recite", "recall_chat"])
def test_recalled_text_stands_in_the_prompt(kind):
    for item in items_of(kind):
        prompt = " ".join(m["content"] for m in item["messages"])
        wanted = item["answer"]
        if kind == "recall_value":
            wanted = re.sub(r"^The full name is (.*)\.$", r"\1", wanted)
        if kind == "recall_chat":
            wanted = re.sub(r"^(Your name is|You have) (.*)\.$", r"\2", wanted)
        assert wanted in prompt


def test_held_out_prompts_fit_the_context():
    assert 800 < max(i["prompt_tokens"] for i in ITEMS) < corpus.CONTEXT - 20


def test_rows_are_functions_of_the_step():
    rows = corpus.load_rows()
    for kind in corpus.KINDS_OF_ROW:
        first, again, other = rows.batch(5, kind, 2), rows.batch(5, kind, 2), rows.batch(6, kind, 2)
        assert all((a == b).all() for a, b in zip(first, again))
        assert (first[0] != other[0]).any()
        assert first[0].shape == (2, corpus.LENGTHS[kind]) and (first[0][:, 0] == rows.begin).all()


def test_text_survives_the_tokenizer():
    tokenizer = corpus.load_rows().tokenizer
    for text in ("Grüße, 12 + 34!", " two  spaces\n", "日本"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text
    assert tokenizer.encode("a").ids[0] == tokenizer.token_to_id(corpus.BEGIN)


@pytest.mark.parametrize("shape", [(256, 256), (128, 256), (768, 256)])
def test_muon_updates_are_nearly_orthogonal(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(muon.orthogonalize(torch.randn(1, *shape))[0])
    assert values.max() < 1.3 and values.median() > 0.6
