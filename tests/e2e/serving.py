"""A running `bittern serve` for tests: started on a free port, spoken to by sockets and urllib, ended by SIGTERM."""

import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from conftest import PROGRAM, clean_environment


class Server:
    """One process; `url` is known once start() has returned, the model is loaded once ready() has."""

    def __init__(self, *arguments, env=None, preexec=None, stderr=None):
        self.process = subprocess.Popen(
            [str(PROGRAM), "serve", *([] if "--port" in arguments else ["--port", "0"]), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=stderr or subprocess.DEVNULL,
            text=True,
            env=clean_environment() | (env or {}),
            preexec_fn=preexec,
        )
        line = self.process.stdout.readline()
        match = re.search(r"listening on ((https?)://(.+):(\d+))", line)
        assert match, f"no address in the first line: {line!r}"
        self.url, self.host, self.port = match[1], match[3], int(match[4])

    def ready(self, seconds=60) -> "Server":
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            if self.get("/readyz")[0] == 200:
                return self
            time.sleep(0.05)
        raise AssertionError("the model was not loaded in time")

    def request(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers, body); a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return reply.status, dict(reply.headers), reply.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, body, **kwargs):
        """(status, JSON)"""
        status, _, reply = self.request("POST", path, body, **kwargs)
        return status, json.loads(reply)

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        text = self.get("/metrics")[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{re.escape(name)}[ {{]", line))

    def wait_for_metric(self, name: str, value: float, seconds=10):
        end = time.monotonic() + seconds
        while self.metric(name) != value:
            assert time.monotonic() < end, f"{name} is {self.metric(name)}, not {value}"
            time.sleep(0.02)

    def connect(self, timeout=20) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def stop(self, seconds=60) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def serving(*arguments, **kwargs):
    """A server whose model is loaded; it must end with status 0."""
    server = Server(*arguments, **kwargs)
    try:
        yield server.ready()
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """What comes, up to some bytes that it must hold."""
    got = b""
    while wanted not in got:
        part = connection.recv(65536)
        assert part, got
        got += part
    return got


def http_request(path: str, body: dict | bytes | None = None, method: str | None = None, more: str = "") -> bytes:
    """The bytes of a request, for tests that speak to the socket themselves."""
    payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    verb = method or ("POST" if body is not None else "GET")
    return f"{verb} {path} HTTP/1.1\r\nhost: test\r\n{more}content-length: {len(payload)}\r\n\r\n".encode() + payload


def long_story(tokens=900) -> dict:
    """A request whose answer takes a while."""
    return {"prompt": "Once", "stream": True, "max_tokens": tokens, "ignore_eos": True, "seed": 1}
