"""eval: protocols and figures on the embedded model."""

import math

import pytest
from conftest import MINI, bittern, bittern_json

TEXT = MINI / "text" / "heldout.txt"
TASKS = MINI / "tasks" / "heldout.jsonl"


def test_ppl_repeats_to_the_bit_and_says_its_protocol():
    runs = [bittern_json("eval", "ppl", "--data", TEXT, "--limit", 3) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0]["ppl"]["context"] == 512
    assert "second half scored" in bittern("eval", "ppl", "--data", TEXT, "--limit", 2).stdout


def test_kl_to_itself_is_zero():
    kl = bittern_json("eval", "kl", "--data", TEXT, "--limit", 2)["kl"]
    assert kl["kl"]["mean"] == 0 and kl["same_top"]["mean"] == 1


def test_kv_formats_cost_more_the_fewer_the_bits():
    def kl(kv):
        report = bittern_json("eval", "kl", "--kv-cache", kv, "--reference-kv-cache", "f32", "--data", TEXT, "--limit", 4)
        return report["kl"]["kl"]["mean"]

    assert 0 <= kl("bf16") < kl("int8") < kl("int4")


def test_nll_of_documents(tmp_path):
    file = tmp_path / "two.txt"
    file.write_text("Once there was a dog.<|endoftext|>The sun is warm today.")
    report = bittern_json("eval", "nll", "--data", file)["nll"]
    assert len(report["documents"]) == 2 and math.isfinite(report["nll"]["mean"])


def test_ppl_of_too_little_text_is_refused(tmp_path):
    file = tmp_path / "short.txt"
    file.write_text("Hi.")
    assert bittern("eval", "ppl", "--data", file, check=2).stderr


def test_tasks_report_by_kind():
    report = bittern_json("eval", "tasks", "--data", TASKS, "--limit", 40)
    assert report["total"] == 40 == sum(kind["total"] for kind in report["kinds"].values())


def test_a_damaged_task_file_names_the_line(tmp_path):
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"prompt": "x", "answer": "y"}\n{"prompt": 3}\n')
    assert "line 2" in bittern("eval", "tasks", "--data", file, check=2).stderr


@pytest.mark.parametrize("metric", ["ppl", "nll", "kl", "tasks"])
def test_missing_data_is_refused(metric):
    assert bittern("eval", metric, "--data", "/no/such/file", check=2).stderr
