#!/usr/bin/env python3
"""Puts Bittern's server and llama.cpp's under the same load in turn (A B A B ...), and prints medians and ratios.

Usage: bench/compare_servers.py MODEL --gguf FILE --llama-server PROGRAM [--program build/release/bittern] [--rounds 3]

MODEL and FILE should hold the same shape at the same bits (`bittern convert MODEL -o FILE` writes one from the other). The
load is `bittern bench serve`: equal seeds, so both get the same prompts and lengths, token ids in /v1/completions, and
replies of full length. llama.cpp's server is its own (tools/server, with -np slots), not a Python package's, which answers
one request at a time. Each run is a process of its own, warmed up by a few requests. It builds and downloads nothing.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Name in the table, where it is in the report, and whether more is better.
FIGURES = [
    ("output tok/s", lambda r: r["output_tokens_per_second"], True),
    ("requests/s", lambda r: r["requests_per_second"], True),
    ("TTFT p50, s", lambda r: r["ttft_seconds"]["p50"], False),
    ("TTFT p99, s", lambda r: r["ttft_seconds"]["p99"], False),
    ("gap p50, s", lambda r: r["gap_seconds"]["p50"], False),
    ("gap p99, s", lambda r: r["gap_seconds"]["p99"], False),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="for bittern serve")
    parser.add_argument("--gguf", required=True, type=Path, help="for llama.cpp's server")
    parser.add_argument("--llama-server", required=True, type=Path, help="llama.cpp's server program")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "release" / "bittern")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt-tokens", default="128-512")
    parser.add_argument("--output-tokens", default="64-128")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve-options", default="", help="more for bittern serve, e.g. '--compute int8'")
    parser.add_argument("--llama-options", default="", help="more for llama.cpp's server, e.g. '-fa on'")
    parser.add_argument("--context", type=int, default=1024, help="tokens a request may take, on both sides")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every run")
    return parser.parse_args()


def commands(args, port):
    """{name: command of a server}: as many requests at once and as much context for each on both sides."""
    ours = [args.program, "serve", args.model, "--port", port, "--threads", args.threads, "--context", args.context,
            "--log-file", "", *shlex.split(args.serve_options)]
    theirs = [args.llama_server, "-m", args.gguf, "--host", "127.0.0.1", "--port", port, "-t", args.threads, "-tb", args.threads,
              "-np", args.concurrency, "-c", args.context * args.concurrency, *shlex.split(args.llama_options)]
    return {"bittern": [str(a) for a in ours], "llama.cpp": [str(a) for a in theirs]}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(command, port, seconds=300):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + seconds
        while True:
            if process.poll() is not None:
                sys.exit(f"compare: the server ended with status {process.returncode}: {shlex.join(command)}")
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                    if reply.status == 200:
                        break
            if time.monotonic() > end:
                sys.exit(f"compare: the server was not ready in {seconds} s: {shlex.join(command)}")
            time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load(args, port, seed):
    command = [args.program, "bench", "serve", "--url", f"http://127.0.0.1:{port}", "--prompts", "ids", "--ignore-eos", "--json",
               "--concurrency", args.concurrency, "--requests", args.requests, "--warmup", max(2, args.concurrency // 4),
               "--prompt-tokens", args.prompt_tokens, "--output-tokens", args.output_tokens, "--seed", seed]
    run = subprocess.run([str(a) for a in command], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"compare: the load failed:\n{run.stderr}")
    results = json.loads(run.stdout)["results"]
    if results["requests"]["failed"]:
        sys.exit(f"compare: requests failed, so the figures mean nothing: {json.dumps(results['errors'])}")
    return results


def table(runs):
    lines = [f"{'':14}{'bittern':>12}{'llama.cpp':>12}{'better by':>12}"]
    for name, figure, more in FIGURES:
        ours, theirs = (statistics.median(figure(r) for r in runs[side]) for side in ("bittern", "llama.cpp"))
        ratio = ours / theirs if more else theirs / ours
        lines.append(f"{name:14}{ours:12.3f}{theirs:12.3f}{ratio:11.2f}x")
    return "\n".join(lines)


def main():
    args = arguments()
    runs = {"bittern": [], "llama.cpp": []}
    for number in range(args.rounds):
        for side in runs:
            port = free_port()
            with running(commands(args, port)[side], port):
                runs[side].append(load(args, port, args.seed + number))
            print(f"round {number + 1}, {side}: {runs[side][-1]['output_tokens_per_second']:.1f} output tok/s", file=sys.stderr)
    print(f"{args.requests} requests, {args.concurrency} at once, prompts {args.prompt_tokens}, outputs {args.output_tokens}, "
          f"{args.threads} threads; medians of {args.rounds} runs\n")
    print(table(runs))
    if args.json:
        args.json.write_text(json.dumps({"arguments": {k: str(v) for k, v in vars(args).items()}, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
