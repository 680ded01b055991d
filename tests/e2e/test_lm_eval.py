"""lm-evaluation-harness, unchanged, as a client: its local-completions model against `bittern serve`.

What it computes is held to the float64 network of tools/quality_reference.py, which shares no code with the server.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads would wait for each other
import pytest  # noqa: E402
from conftest import MINI, ROOT  # noqa: E402
from serving import serving  # noqa: E402

pytest.importorskip("lm_eval", reason="lm_eval is not installed; `make test-lm-eval` installs it and runs this")
sys.path.insert(0, str(ROOT / "tools"))
from quality_reference import Llama, Tokenizer  # noqa: E402

TASKS = Path(__file__).parent / "lm_eval_tasks"
SHARED = Path(os.environ.get("BITTERN_SHARED_DATA", ROOT / ".." / "shared" / "data"))
MODELS = {"mini": MINI, "stories260K": SHARED / "models" / "stories260K"}
NAMES = ["bittern_choice", "bittern_text", "bittern_generate"]


def run_harness(url: str, model: str, bos: int, out: Path) -> dict[str, list[dict]]:
    """The harness's samples by task."""
    arguments = f"model={model},base_url={url}/v1/completions,tokenizer_backend=remote,custom_prefix_token_id={bos}"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", arguments]
    command += ["--include_path", ".", "--tasks", *NAMES, "--batch_size", "1", "--log_samples", "--output_path", str(out)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "cache")}
    done = subprocess.run(command, cwd=TASKS, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    samples = {}
    for task in NAMES:
        (file,) = out.rglob(f"samples_{task}_*.jsonl")
        samples[task] = [json.loads(line) for line in file.read_text().splitlines()]
    return samples


class Reference:
    def __init__(self, folder: Path):
        self.tokenizer, self.network = Tokenizer(folder), Llama(folder)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)[1:]

    def score(self, ids: list[int], first: int) -> float:
        table = self.network.log_probabilities(ids)
        return sum(table[i - 1, ids[i]] for i in range(first, len(ids)))

    def pair(self, context: str, continuation: str) -> float:
        return self.score(self.ids(context + continuation), len(self.ids(context)))

    def rolling(self, text: str) -> float:
        return self.score([self.tokenizer.bos, *self.ids(text)], 1)

    def go_on(self, text: str, tokens: int) -> list[int]:
        ids = self.ids(text)
        for _ in range(tokens):
            ids.append(int(self.network.log_probabilities(ids)[-1].argmax()))
        return ids[-tokens:]


@pytest.mark.parametrize("model", MODELS)
def test_the_harness_gets_the_numbers_of_a_float64_network(model, tmp_path):
    if not MODELS[model].exists():
        pytest.skip(f"absent: {MODELS[model]} (set BITTERN_SHARED_DATA to a folder that has it)")
    reference = Reference(MODELS[model])
    with serving(f"{model}={MODELS[model]}", "--kv-cache", "f32", "--compute", "f32") as server:
        samples = run_harness(server.url, model, reference.tokenizer.bos, tmp_path)

        for sample in samples["bittern_choice"]:
            doc = sample["doc"]
            for choice, response in zip(doc["choices"], sample["filtered_resps"]):
                wanted = reference.pair(doc["question"], choice)
                assert float(response[0]) == pytest.approx(wanted, rel=1e-4, abs=1e-4), (doc["question"], choice)
        for sample in samples["bittern_text"]:
            wanted = reference.rolling(sample["doc"]["text"])
            (response,) = sample["filtered_resps"]
            assert float(response) == pytest.approx(wanted, rel=1e-4)
        for sample in samples["bittern_generate"]:
            tokens = reference.go_on(sample["doc"]["question"], 12)
            _, reply = server.post("/detokenize", {"tokens": tokens})
            (response,) = sample["filtered_resps"]
            assert response.strip() == reply["prompt"].split(".")[0].strip()
