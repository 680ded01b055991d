#!/usr/bin/env python3
"""Keeps a server under load for minutes and says whether it came through: streams that finish, streams that are cut off
half-way, whole answers, and requests that are wrong on purpose. It starts `bittern serve` itself and ends with status 1
when a well-formed request failed, memory grew, or something is left behind.

    tools/soak.py build/release/bittern --streams 64 --minutes 30 [-- options of serve]
"""

import argparse
import asyncio
import collections
import json
import random
import re
import statistics
import subprocess
import sys
import time

BAD_REQUESTS = [
    (b'{"prompt": ', 400),
    (b'{"prompt": "\xff"}', 400),
    (b'{"prompt": "x", "temperature": 9}', 400),
    (b'{"prompt": "x", "model": "none"}', 404),
    (b"[" * 5000, 400),
    (b'{"prompt": 5}', 400),
]


class Soak:
    def __init__(self, port: int, streams: int, cancel: float):
        self.port, self.streams, self.cancel = port, streams, cancel
        self.counts = collections.Counter()
        self.failures = []
        self.tokens = 0
        self.end = 0.0

    async def send(self, body: bytes, path="/v1/completions"):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        return reader, writer

    async def one(self, rng: random.Random):
        kind = rng.random()
        if kind < 0.05:
            return await self.wrong(rng)
        body = {"prompt": "Once upon a time " * rng.randint(1, 40), "max_tokens": rng.randint(8, 256), "ignore_eos": True}
        body["stream"] = rng.random() < 0.8
        reader, writer = await self.send(json.dumps(body).encode())
        try:
            if rng.random() < self.cancel:
                await asyncio.sleep(rng.random() * 0.5)
                await reader.read(rng.randint(1, 4000))
                self.counts["left early"] += 1
                return
            self.check(body, await reader.read())
        finally:
            writer.close()

    async def wrong(self, rng):
        body, wanted = rng.choice(BAD_REQUESTS)
        reader, writer = await self.send(body)
        reply = await reader.read()
        writer.close()
        status = int(reply.split(b" ", 2)[1]) if reply else 0
        self.counts["wrong on purpose"] += 1
        if status != wanted:
            self.failures.append(f"{body[:30]!r} was answered with {status}, not {wanted}")

    def check(self, body, reply: bytes):
        good = reply.startswith(b"HTTP/1.1 200") and (not body["stream"] or b"data: [DONE]" in reply)
        if reply.startswith(b"HTTP/1.1 429"):
            self.counts["told to come back"] += 1
        elif not good:
            self.failures.append(reply[-300:].decode(errors="replace"))
        else:
            self.counts["streams" if body["stream"] else "whole answers"] += 1
            self.tokens += body["max_tokens"]

    async def client(self, index: int):
        rng = random.Random(index)
        while time.monotonic() < self.end:
            await self.one(rng)

    async def run(self, seconds: float):
        self.end = time.monotonic() + seconds
        await asyncio.gather(*(self.client(i) for i in range(self.streams)))


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


async def metrics(port: int) -> dict[str, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = collections.Counter()
    for line in text.splitlines():
        if line.startswith("bittern:"):
            found[re.split(r"[ {]", line)[0]] += float(line.rsplit(" ", 1)[1])
    return found


async def soak(arguments, server, port) -> int:
    load = Soak(port, arguments.streams, arguments.cancel)
    samples = []

    async def watch():
        while True:
            await asyncio.sleep(max(arguments.minutes * 60 / 60, 0.5))
            samples.append(resident_mib(server.pid))

    watching = asyncio.create_task(watch())
    begin = time.monotonic()
    await load.run(arguments.minutes * 60)
    watching.cancel()
    seconds = time.monotonic() - begin
    await asyncio.sleep(2)
    left = await metrics(port)
    # The first fifth warms up: buffers of the largest requests are made once.
    warm = samples[len(samples) // 5 :]
    early, late = statistics.median(warm[: len(warm) // 3]), statistics.median(warm[-(len(warm) // 3) :])
    growth = late / early - 1
    print(f"{seconds:.0f} s, {arguments.streams} streams: {dict(load.counts)}, {load.tokens / seconds:.0f} tokens/s")
    print(f"resident memory {early:.1f} MiB early, {late:.1f} MiB late: {growth:+.2%}")
    print(f"left: {left['bittern:num_requests_running']:.0f} running, {left['bittern:num_requests_waiting']:.0f} waiting, "
          f"{left['bittern:kv_blocks_used']:.0f} blocks used, {left['bittern:num_preemptions_total']:.0f} preemptions")
    for failure in load.failures[:5]:
        print(f"failed: {failure}")
    bad = bool(load.failures) or growth > 0.02 or any(
        left[f"bittern:{name}"] for name in ("num_requests_running", "num_requests_waiting", "kv_blocks_used"))
    return int(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--cancel", type=float, default=0.1, help="part of the clients that leave early")
    parser.add_argument("serve", nargs="*", help="options of serve, after --")
    arguments = parser.parse_args()
    command = [arguments.program, "serve", "--port", "0", "--log-file", "", *arguments.serve]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    port = int(re.search(r":(\d+),", server.stdout.readline())[1])
    server.stdout.readline()  # ready
    try:
        status = asyncio.run(soak(arguments, server, port))
        server.terminate()
        ended = server.wait(60)
        print(f"the server ended with status {ended}")
        return status or ended
    finally:
        server.kill()


if __name__ == "__main__":
    sys.exit(main())
