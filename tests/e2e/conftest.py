"""Running the program as a user does. BITTERN_PROGRAM names it; the default is what `make build` leaves."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("BITTERN_PROGRAM", ROOT / "build" / "release" / "bittern"))
MINI = ROOT / "models" / "mini"


def clean_environment() -> dict[str, str]:
    """The environment without BITTERN_*, so that a developer's settings cannot change a test."""
    return {k: v for k, v in os.environ.items() if not k.startswith("BITTERN_")}


def bittern(*args, stdin: str | None = None, check: int | None = 0, env: dict[str, str] | None = None, timeout: int = 300):
    """Runs the program; `check` is the exit status it must have (None: any)."""
    result = subprocess.run(
        [str(PROGRAM), *map(str, args)],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        env=clean_environment() | (env or {}),
    )
    if check is not None:
        assert result.returncode == check, f"{args}: status {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def bittern_json(*args, **kwargs):
    return json.loads(bittern(*args, "--json", **kwargs).stdout)


@pytest.fixture(scope="session")
def program() -> pathlib.Path:
    assert PROGRAM.exists(), f"{PROGRAM} is missing: run `make build`, or set BITTERN_PROGRAM"
    return PROGRAM


@pytest.fixture(scope="session")
def mini_w4(tmp_path_factory) -> pathlib.Path:
    """The embedded model quantized to W4A16, group size 128."""
    out = tmp_path_factory.mktemp("quantized") / "mini-w4"
    bittern("quantize", "-o", out, "--group-size", 128)
    return out
