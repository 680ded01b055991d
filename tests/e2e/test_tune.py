"""bittern tune on the embedded model: the four steps, what the bar, the limit and the objective change, what a second
run measures again, and what is refused. Small samples: what is tested is the rule on real measurements."""

import json
import sys

import pytest
from conftest import MINI, ROOT, bittern

sys.path.insert(0, str(ROOT / "tools"))
from unbalanced_model import unbalance  # noqa: E402

SMALL = ["--windows", "2", "--task-limit", "6", "--recall-samples", "1", "--recall-length", "128", "--generations", "1",
         "--generation-tokens", "16", "--speed-repeats", "1", "--context", "256", "--max-sequences", "2",
         "--weights", "w4a16-rtn-g128"]


def tune(folder, *arguments, check=0):
    return bittern("tune", "-o", folder, "--json", *SMALL, *arguments, check=check)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "work"
    page = folder.parent / "page.html"
    run = tune(folder, "--quality", "loose", "--objective", "memory", "--html", page)
    return folder, json.loads(run.stdout), run.stderr, page.read_text()


def test_takes_the_four_steps_and_recommends_the_smallest(tuned):
    _, result, _, _ = tuned
    names = ["plain", "kv int8", "w4a16-rtn-g128", "w4a16-rtn-g128 + kv int8"]
    assert [m["name"] for m in result["measured"]] == names
    assert [s["outcome"] for s in result["path"]] == ["kept"] * 4
    assert result["recommended"] == names[3]
    plain, kv, weights, both = result["measured"]
    assert plain["kl"] == 0 and plain["same_top"] == 1
    assert 0 < kv["kl"] < weights["kl"] < 0.1
    assert both["peak_bytes"] < min(kv["peak_bytes"], weights["peak_bytes"]) < plain["peak_bytes"]
    assert kv["kv_bytes"] < plain["kv_bytes"] and kv["weight_bytes"] == plain["weight_bytes"]
    for measured in result["measured"]:
        assert measured["prefill"] > 0 and measured["decode"] > 0 and measured["batched"] > 0
        assert 0 <= measured["tasks"] <= 1 and 0 <= measured["recall"] <= 1


def test_the_command_runs_what_was_recommended(tuned):
    _, result, _, _ = tuned
    words = result["command"].split()
    assert words[:2] == ["bittern", "chat"]
    assert bittern(*words[1:], stdin="Hello!\n").stdout.strip()


def test_a_second_run_measures_nothing_anew_and_another_bar_changes_the_choice(tuned):
    folder, first, _, _ = tuned
    run = tune(folder, "--quality", "kl=0.0005", "--objective", "memory")
    assert "measuring" not in run.stderr
    result = json.loads(run.stdout)
    assert result["recommended"] == "kv int8"
    assert result["measured"] == [dict(m, passes=True) for m in first["measured"][:2]] + \
        [dict(first["measured"][2], passes=False)]
    assert result["path"][3]["outcome"] == "not tried"


def test_the_memory_limit_changes_the_choice(tuned):
    folder, first, _, _ = tuned
    plain, kv = first["measured"][:2]
    limit = (plain["peak_bytes"] + kv["peak_bytes"]) // 2
    result = json.loads(tune(folder, "--quality", "kl=0", "--objective", "memory").stdout)
    assert result["recommended"] == "plain"
    run = tune(folder, "--quality", "kl=0", "--memory", limit, check=1)
    result = json.loads(run.stdout)
    assert result["recommended"] is None and result["command"] is None
    assert "the smallest that passes is plain" in result["reason"]


def test_the_page_says_what_to_run_and_loads_nothing(tuned):
    _, result, _, page = tuned
    assert f"<h1>Run it as: {result['recommended']}</h1>" in page
    assert result["command"] in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    for measured in result["measured"]:
        assert f"<td>{measured['name']}</td>" in page


def test_other_conditions_are_measured_anew(tuned):
    folder, _, _, _ = tuned
    run = tune(folder, "--calibration-samples", 7, "--quality", "loose")
    assert "4 measurements in" in run.stderr and "measuring plain" in run.stderr


@pytest.mark.parametrize("arguments, said", [
    (["--quality", "stric"], "strict"),
    (["--objective", "speed"], "throughput, latency, memory"),
    (["--weights", "w4a16-magic"], "no algorithm 'magic'"),
    (["--weights", "w9a16-rtn"], "w9a16"),
    (["--weights", "w4a16-rtn-g48"], "48"),
    (["--kv", "int7"], "int7"),
    (["--kv", "auto"], "plain has already"),
    (["--kv", "int8,int8"], "twice"),
    (["--memory", "lots"], "--memory"),
    (["--data", "/nonexistent.txt"], "/nonexistent.txt"),
    (["--tasks", "/nonexistent.jsonl"], "/nonexistent.jsonl"),
])
def test_refuses_before_it_measures(tmp_path, arguments, said):
    run = bittern("tune", "-o", tmp_path / "t", *arguments, check=None)
    assert run.returncode not in (0, 1)
    assert said in run.stderr
    assert "measuring" not in run.stderr
    assert not (tmp_path / "t").exists()


def test_a_quantized_model_is_tuned_without_quantizing_it_again(tuned, tmp_path):
    folder, _, _, _ = tuned
    model = folder / "models" / "w4a16-rtn-g128"
    arguments = [a for a in SMALL if a not in ("--weights", "w4a16-rtn-g128")]
    run = bittern("tune", model, "-o", tmp_path / "t", "--json", *arguments)
    assert "quantized weights are not tried" in run.stderr
    assert [m["name"] for m in json.loads(run.stdout)["measured"]] == ["plain", "kv int8"]
    refused = bittern("tune", model, "-o", folder, *arguments, check=None)
    assert refused.returncode not in (0, 1) and "another model" in refused.stderr


def same_text_and_tasks():
    return ["--data", MINI / "text" / "heldout.txt", "--tasks", MINI / "tasks" / "heldout.jsonl"]


def test_a_model_whose_k_has_outliers_keeps_its_kv_cache(tmp_path):
    model = unbalance("k", 10, tmp_path / "model")
    result = json.loads(tune(tmp_path / "t", model, *same_text_and_tasks(), "--objective", "memory").stdout)
    plain, kv, weights = result["measured"]
    assert kv["kl"] > 20 * weights["kl"], "the cache loses what the weights do not"
    assert not kv["passes"] and weights["passes"]
    assert result["recommended"] == "w4a16-rtn-g128"
    assert result["path"][3] == {"name": "w4a16-rtn-g128 + kv int8", "outcome": "not tried",
                                 "reason": "kv int8 fell below the bar by itself"}


def test_a_model_that_rounding_breaks_keeps_its_weights_unless_awq_saves_them(tmp_path):
    model = unbalance("down", 6, tmp_path / "model")
    arguments = [a for a in SMALL if a not in ("--weights", "w4a16-rtn-g128")]
    result = json.loads(bittern("tune", model, "-o", tmp_path / "t", "--json", *arguments, *same_text_and_tasks(),
                                "--weights", "w4a16-rtn-g128,w4a16-awq-g128", "--calibration-samples", 8,
                                "--objective", "memory").stdout)
    measured = {m["name"]: m for m in result["measured"]}
    assert measured["kv int8"]["passes"]
    assert not measured["w4a16-rtn-g128"]["passes"]
    assert measured["w4a16-awq-g128"]["passes"]
    assert result["recommended"] == "w4a16-awq-g128 + kv int8"
