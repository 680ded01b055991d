#!/usr/bin/env python3
"""Opens thousands of streams against one server and measures how evenly their events come: the gap between two events of
a stream, beside the engine's own step in the same seconds. It starts `bittern serve` itself with room for all streams in
one step; the client is one process that reads and takes the time, so it takes a share of the machine.

    tools/sse_gaps.py build/release/bittern --streams 2000 --seconds 20
"""

import argparse
import json
import os
import pathlib
import re
import resource
import select
import socket
import subprocess
import sys
import time
import urllib.request


def start(program, streams, more):
    command = [program, "serve", "--port", "0", "--max-sequences", str(streams), "--max-queued", str(2 * streams),
               "--max-step-tokens", str(max(512, streams)), "--max-connections", str(streams + 100), "--log-file", "", *more]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    port = int(re.search(r":(\d+),", server.stdout.readline())[1])
    for line in server.stdout:
        if "is ready" in line:
            print(line.strip())
            return server, port
    sys.exit("the model could not be loaded")


def counters(port):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    value = {name: 0.0 for name in ("engine_steps_total", "num_requests_running", "resident_memory_bytes")}
    for line in text.splitlines():
        for name in value:
            if re.match(rf"bittern:{name}[ {{]", line):
                value[name] += float(line.rsplit(" ", 1)[1])
    return value


def open_streams(port, count, tokens):
    body = json.dumps({"prompt": "Once", "stream": True, "max_tokens": tokens, "ignore_eos": True}).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nhost: gaps\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    streams = {}
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request)
        connection.setblocking(False)
        streams[connection.fileno()] = connection
    return streams


def read_for(poll, streams, last, seconds, gaps):
    """Adds the gaps between arrivals that hold events to `gaps`; several events at once are one gap and gaps of 0."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _ in poll.poll(0.1):
            part = streams[fd].recv(65536)
            now = time.monotonic()
            events = part.count(b"data: ")
            if not part or b"[DONE]" in part:
                sys.exit("a stream ended while it was measured: give --tokens more")
            if events and fd in last:
                gaps.append(now - last[fd])
                gaps.extend([0.0] * (events - 1))
            if events:
                last[fd] = now


def percentile(sorted_values, percent):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]


def measure(arguments, port):
    streams = open_streams(port, arguments.streams, arguments.tokens)
    poll = select.epoll()
    for fd in streams:
        poll.register(fd, select.EPOLLIN)
    last, waste = {}, []
    while len(last) < len(streams):
        read_for(poll, streams, last, 0.5, waste)
    gaps, before, begin = [], counters(port), time.monotonic()
    read_for(poll, streams, last, arguments.seconds, gaps)
    after, seconds = counters(port), time.monotonic() - begin
    gaps.sort()
    step = seconds / (after["engine_steps_total"] - before["engine_steps_total"])
    return {"streams": len(streams), "seconds": seconds, "events": len(gaps), "events_per_second": len(gaps) / seconds,
            "step_ms": step * 1e3, **{f"gap_p{p}_ms": percentile(gaps, p) * 1e3 for p in (50, 99, 99.9)},
            "p99_to_step": percentile(gaps, 99) / step, "running": after["num_requests_running"],
            "resident_mib": after["resident_memory_bytes"] / 2**20, "load_average": os.getloadavg()[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tokens", type=int, default=900, help="of each stream; must outlast the measurement")
    parser.add_argument("options", nargs="*", help="further options of serve, after --")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server, port = start(arguments.program.resolve(), arguments.streams, arguments.options)
    try:
        for name, value in measure(arguments, port).items():
            print(f"{name:>18} {value:12.2f}")
    finally:
        server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
