"""eval: protocols, figures, files and refusals on the embedded model."""

import csv
import json
import math
import re
import signal
import subprocess
import time

import pytest
from conftest import MINI, PROGRAM, bittern, bittern_json, clean_environment

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


@pytest.mark.parametrize("text, message", [
    ('{"prompt": "x", "answer": "y"}\n{"prompt": 3}\n', "line 2"),
    ('{"prompt": "x", "answer": "y"}\n\n{"prompt": \n', "line 3"),
    ('{"type": "exakt", "prompt": "x", "answer": "y"}\n', "line 1: unknown task type 'exakt'"),
    ("", "holds no task"),
])
def test_a_damaged_task_file_is_refused_by_line(tmp_path, text, message):
    file = tmp_path / "tasks.jsonl"
    file.write_text(text)
    assert message in bittern("eval", "tasks", "--data", file, check=2).stderr


def task_file(path, *tasks):
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return path


def user(text):
    return [{"role": "user", "content": text}]


def test_tasks_of_every_type(tmp_path):
    file = task_file(
        tmp_path / "tasks.jsonl",
        {"id": "e", "kind": "exact", "messages": user("What is 14 + 44?"), "answer": ["fifty-eight", "58"]},
        {"id": "n", "kind": "numeric", "type": "numeric", "messages": user("What is 14 + 44?"), "answer": 58},
        {"id": "w", "kind": "numeric", "type": "numeric", "messages": user("What is 14 + 44?"), "answer": 57},
        {"id": "c", "kind": "choice", "messages": user("What is the capital of France?"),
         "choices": ["Rome", "Paris", "a very long river in the west"], "answer": "Paris"},
        {"id": "j", "kind": "json", "type": "json", "messages": user("What is 14 + 44?"), "answer": 58},
        {"id": "o", "kind": "json", "type": "json", "messages": user("What is the capital of France?")},
    )
    table = tmp_path / "answers.csv"
    report = bittern_json("eval", "tasks", "--data", file, "--csv", table)
    rows = {row["id"]: row for row in csv.DictReader(table.open())}
    assert {name: row["right"] for name, row in rows.items()} == {"e": "1", "n": "1", "w": "0", "c": "1", "j": "1", "o": "0"}
    assert rows["e"]["reply"] == "58" and len(rows["c"]["log_likelihoods"].split()) == 3
    assert rows["c"]["right_normalized"] in "01" and rows["e"]["right_normalized"] == ""
    assert report["right"] == 4 and report["total"] == 6
    assert report["length_normalized"]["choice"]["total"] == 1
    assert [wrong["id"] for wrong in report["wrong"]] == ["w", "o"]


def test_published_formats_and_examples(tmp_path):
    (tmp_path / "mmlu").mkdir()
    rows = [["What is 1 + 1?", "1", "2", "3", "4", "B"], ['A "quoted", question', "a", "b", "c", "d", "A"],
            ["Two\nlines", "a", "b", "c", "d", "C"]]
    with (tmp_path / "mmlu" / "small_sums_test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = bittern_json("eval", "tasks", "--data", tmp_path / "mmlu", "--shots", 1)
    assert report["kinds"].keys() == {"small sums"} and report["total"] == 2  # the first one is the example
    gsm8k = task_file(tmp_path / "gsm8k.jsonl", {"question": "Tom has 2 cups and gets 3. How many?", "answer": "2 + 3 = 5\n#### 5"})
    report = bittern_json("eval", "tasks", "--data", gsm8k, "--max-tokens", 20)
    assert report["kinds"]["gsm8k"]["total"] == 1
    assert "--shots asks" in bittern("eval", "tasks", "--data", gsm8k, "--shots", 2, "--shots-data", gsm8k, check=2).stderr


def test_tasks_against_a_reference_are_pairs(tmp_path):
    args = ("eval", "tasks", "--data", TASKS, "--limit", 60)
    report = bittern_json(*args, "--kv-cache", "int4", "--reference-kv-cache", "f32")
    same = bittern_json(*args, "--reference-kv-cache", "auto")
    assert same["difference"]["interval"] == {"low": 0, "high": 0} and same["lost"] == same["gained"] == 0
    assert report["difference"]["value"] == pytest.approx(report["accuracy"] - report["reference"]["accuracy"])
    assert report["lost"] - report["gained"] == report["reference"]["right"] - report["right"]


def test_answers_do_not_depend_on_the_batch():
    runs = [bittern_json("eval", "tasks", "--data", TASKS, "--limit", 40, "--max-sequences", n) for n in (1, 16)]
    assert all(run.pop("seconds") > 0 for run in runs)
    assert runs[0] == runs[1]


def test_recall_shows_what_the_kv_cache_loses(tmp_path):
    args = ("eval", "recall", "--lengths", "256,1000", "--depths", "0,0.5", "--samples", 5)
    table, page = tmp_path / "recall.csv", tmp_path / "recall.html"
    report = bittern_json(*args, "--kv-cache", "int4", "--reference-kv-cache", "f32", "--csv", table, "--html", page)
    assert len(report["cells"]) == 4 and report["recall"]["total"] == 20
    assert report["recall"]["reference"]["accuracy"] > 0.6  # the model knows the task
    assert report["recall"]["nll_difference"]["value"] > 0
    assert len(list(csv.DictReader(table.open()))) == 20
    assert bittern_json(*args) == bittern_json(*args)
    assert "<svg" in page.read_text() and "http:" not in page.read_text()
    assert bittern_json(*args, "--plain")["protocol"].startswith("plain")


def test_recall_longer_than_the_model_is_refused():
    assert "made for 1024" in bittern("eval", "recall", "--lengths", 2048, check=2).stderr
    assert "holds no text" in bittern("eval", "recall", "--lengths", 16, check=2).stderr


def test_kl_tells_percentiles_curve_and_intervals(tmp_path):
    table, page = tmp_path / "kl.csv", tmp_path / "kl.html"
    report = bittern_json("eval", "kl", "--kv-cache", "int4", "--reference-kv-cache", "f32", "--data", TEXT, "--limit", 4,
                          "--context", 256, "--buckets", 4, "--csv", table, "--html", page)["kl"]
    summary, rows = report["summary"], list(csv.DictReader(table.open()))
    assert len(rows) == report["reference"]["tokens"] == 4 * 127
    kls = sorted(float(row["kl"]) for row in rows)
    assert summary["kl"]["value"] == pytest.approx(sum(kls) / len(kls), rel=1e-12)
    assert summary["kl_percentiles"]["max"] == kls[-1]
    interval = summary["kl"]["interval"]
    assert interval["low"] <= summary["kl"]["value"] <= interval["high"]
    assert [bucket["begin"] for bucket in summary["curve"]] == [128, 160, 192, 224]
    assert sum(bucket["positions"] for bucket in summary["curve"]) == len(rows)
    assert page.read_text().count('class="plot"') == 3


def test_kernel_error_is_far_below_quantization_error(mini_w4):
    args = ("--data", TEXT, "--context", 128, "--limit", 2)
    kernels = bittern_json("eval", "kl", mini_w4, "--reference", "same-weights", "--compute", "f32", *args)
    assert re.match(r".*, ref.*, KV bf16", kernels["reference"])
    weights = bittern_json("eval", "kl", mini_w4, "--reference", MINI, *args)
    assert kernels["kl"]["kl"]["mean"] < 1e-3 * weights["kl"]["kl"]["mean"]
    rounded = bittern_json("eval", "kl", mini_w4, "--reference", "same-weights", "--reference-backend", "cpu", "--compute",
                           "int8", *args)["kl"]["kl"]["mean"]
    assert kernels["kl"]["kl"]["mean"] < rounded


@pytest.mark.parametrize("args", [("ppl", "--data", TEXT, "--context", 2048), ("kl", "--data", TEXT, "--context", 2048)])
def test_a_context_the_model_cannot_hold_is_refused(args):
    assert "2048" in bittern("eval", *args, check=2).stderr


def test_a_task_longer_than_the_context_is_named(tmp_path):
    file = task_file(tmp_path / "tasks.jsonl", {"id": "short", "prompt": "Hi.", "answer": "x"},
                     {"id": "long-one", "prompt": "the cat went to the hill. " * 40, "answer": "x"},
                     {"id": "long-choice", "prompt": "the cat went to the hill. " * 40, "choices": ["a", "b"], "answer": 0})
    assert "long-one" in bittern("eval", "tasks", "--data", file, "--context", 64, "--max-tokens", 8, check=2).stderr
    file.write_text(file.read_text().splitlines()[2])
    assert "long-choice" in bittern("eval", "tasks", "--data", file, "--context", 64, check=2).stderr


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    result = bittern("eval", "ppl", "--data", TEXT, "--limit", 2, "--csv", tmp_path / "none" / "x.csv", check=None)
    assert result.returncode != 0 and "x.csv" in result.stderr and result.stdout == ""


@pytest.mark.parametrize("args", [
    ("kl", "--data", TEXT, "--context", "32", "--reference-kv-cache", "int4"),
    ("recall", "--lengths", "512", "--samples", "100"),
    ("tasks", "--data", TASKS),
])
def test_ctrl_c_keeps_what_is_done(args):
    process = subprocess.Popen([str(PROGRAM), "eval", *map(str, args), "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=clean_environment() | {"BITTERN_THREADS": "1"})
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("the run was over before it was stopped")
    assert process.returncode == 130, err
    if out:  # nothing was done yet otherwise, which the message says
        report = json.loads(out)
        assert report.get("stopped") or report["kl"]["reference"]["stopped"]
    else:
        assert "stopped before" in err


@pytest.mark.parametrize("metric", ["ppl", "nll", "kl", "tasks"])
def test_missing_data_is_refused(metric):
    assert bittern("eval", metric, "--data", "/no/such/file", check=2).stderr
