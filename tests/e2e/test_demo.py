"""The demonstration of `make demo`: it ends well, and its table says what a reader should take from it."""

import re
import subprocess

from conftest import ROOT, clean_environment


def test_the_demo_shows_what_quantization_costs(program):
    run = subprocess.run([str(ROOT / "scripts" / "demo.sh"), str(program)], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, timeout=600, env=clean_environment())
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    rows = {}
    for name in ("plain", "plain-kv8", "w4", "w4-kv8"):
        line = re.search(rf"^{name} .*$", run.stdout, re.MULTILINE)
        assert line, run.stdout
        rows[name] = re.split(r"\s{2,}", line.group().strip())
    kl = {name: float(row[4]) for name, row in rows.items()}
    assert kl["plain"] == 0 and kl["plain-kv8"] < 1e-4
    assert 0.001 < kl["w4"] < 0.01 and 0.001 < kl["w4-kv8"] < 0.01
    for row in rows.values():
        assert float(row[6].removesuffix(" %")) > 85, "tasks solved"
    assert run.stdout.count("\n>>> ") >= 3, "it chats"
