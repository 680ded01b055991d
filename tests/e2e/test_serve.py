"""The server under what the world does to it: limits, silence, disconnects, broken input, signals, missing resources."""

import json
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import pytest
from conftest import bittern
from serving import Server, http_request, long_story, read_all, read_until, serving

GENERATE = "/v1/completions"


@pytest.fixture(scope="module")
def server(program):
    with serving() as running:
        yield running


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


# --- life ---------------------------------------------------------------------------------------------------------------


def test_health_tells_the_phase(server):
    for path in ["/health", "/readyz", "/startupz"]:
        status, _, body = server.get(path)
        assert (status, json.loads(body)["status"]) == (200, "ready"), path
    assert server.get("/livez")[0] == 200
    assert json.loads(server.get("/version")[2])["version"]


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    failed = Server(tmp_path, stderr=subprocess.PIPE)
    as_other_verbs = bittern("generate", tmp_path, "-p", "x", check=None).returncode
    assert failed.process.wait(60) == as_other_verbs != 0
    assert "could not be loaded" in failed.process.stderr.read()


def test_a_port_in_use_is_refused(server):
    result = bittern("serve", "--port", server.port, check=None)
    assert result.returncode == 74 and str(server.port) in result.stderr


def test_other_machines_need_a_key(program):
    result = bittern("serve", "--host", "0.0.0.0", check=2)
    assert "--api-key-file" in result.stderr


def test_sigterm_lets_a_stream_finish():
    with serving() as draining:
        with draining.connect() as connection:
            connection.sendall(http_request(GENERATE, long_story(300)))
            read_until(connection, b"data:")
            draining.process.send_signal(signal.SIGTERM)
            rest = read_all(connection)
        assert rest.endswith(b"0\r\n\r\n") and b"[DONE]" in rest
        assert draining.process.wait(30) == 0


def test_requests_are_refused_while_draining():
    with serving() as draining:
        with draining.connect() as busy, draining.connect() as idle, draining.connect() as late:
            busy.sendall(http_request(GENERATE, long_story() | {"n": 100}))
            read_until(busy, b"data:")
            late.sendall(b"POST /v1/completions HTTP/1.1\r\n")  # a request that has begun
            time.sleep(0.2)
            draining.process.send_signal(signal.SIGTERM)
            assert read_all(idle) == b""  # idle connections close at once
            late.sendall(b"host: test\r\ncontent-length: 2\r\n\r\n{}")
            refusal = read_all(late)
            assert status_of(refusal) == 503 and b"retry-after" in refusal
            draining.process.send_signal(signal.SIGTERM)  # the second cuts
            read_all(busy)
        assert draining.process.wait(30) == 0


def test_kill_and_start_again_on_the_same_port():
    first = Server().ready()
    first.process.kill()
    first.process.wait()
    with serving("--port", first.port) as second:
        assert second.port == first.port and second.get("/health")[0] == 200


# --- clients that go ------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_frees_its_blocks(server):
    before = server.metric("bittern:http_disconnects_total")
    for _ in range(8):
        with server.connect() as connection:
            connection.sendall(http_request(GENERATE, long_story()))
            read_until(connection, b"data:")
    server.wait_for_metric("bittern:num_requests_running", 0)
    server.wait_for_metric("bittern:http_disconnects_total", before + 8)


def test_a_client_that_leaves_before_its_whole_answer(server):
    before = server.metric("bittern:http_disconnects_total")
    with server.connect() as connection:
        connection.sendall(http_request(GENERATE, long_story() | {"stream": False}))
        time.sleep(0.2)
    server.wait_for_metric("bittern:num_requests_running", 0)
    server.wait_for_metric("bittern:http_disconnects_total", before + 1)


def test_a_client_that_does_not_read_is_cut():
    with serving("--write-timeout", 0.5) as impatient:
        with impatient.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = long_story() | {"n": 8, "logprobs": 5}
            connection.sendall(http_request(GENERATE, body) * 6)
            impatient.wait_for_metric("bittern:http_disconnects_total", 1, seconds=60)
            impatient.wait_for_metric("bittern:num_requests_running", 0)


# --- limits ---------------------------------------------------------------------------------------------------------------


def test_a_body_of_100_mb_is_refused(server):
    status, headers, body = server.request("POST", GENERATE, b"[" * (100 << 20))
    assert status == 413 and "16777216" in json.loads(body)["error"]["message"]


def test_a_long_header_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n")
        assert status_of(read_all(connection)) == 431


def test_slow_headers_and_bodies_time_out():
    with serving("--header-timeout", 0.4, "--body-timeout", 0.4) as impatient:
        with impatient.connect() as header, impatient.connect() as body, impatient.connect() as silent:
            header.sendall(b"GET /health HTTP/1.1\r\n")
            body.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
            assert status_of(read_all(header)) == 408
            assert status_of(read_all(body)) == 408
            assert read_all(silent) == b""


def test_thousands_of_half_open_connections():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 500, hard))
    try:
        with serving("--header-timeout", 5, "--max-connections", count + 100) as crowded:
            crowd = [crowded.connect() for _ in range(count)]
            for connection in crowd:
                connection.sendall(b"GET /health HT")
            assert crowded.get("/health")[0] == 200
            assert crowded.post(GENERATE, {"prompt": "Once", "max_tokens": 3})[0] == 200
            assert status_of(read_all(crowd[0])) == 408
            for connection in crowd:
                connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_out_of_file_descriptors_recovers():
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with serving("--max-connections", 1000, preexec=few_files) as poor:
        crowd = [poor.connect() for _ in range(100)]
        time.sleep(0.5)
        for connection in crowd:
            connection.close()
        assert poor.get("/health")[0] == 200
        assert poor.metric("bittern:accept_failures_total") > 0


def test_a_full_disk_for_the_log_disturbs_nobody():
    with serving("--log-file", "/dev/full") as full:
        assert full.post(GENERATE, {"prompt": "Once", "max_tokens": 3})[0] == 200
        end = time.monotonic() + 10
        while full.metric("bittern:log_failures_total") == 0:
            assert time.monotonic() < end


def test_the_log_has_no_text_of_the_prompt(tmp_path):
    log = tmp_path / "access.jsonl"
    with serving("--log-file", log) as logged:
        headers = {"x-request-id": "my-id", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        _, reply, _ = logged.request("POST", GENERATE, {"prompt": "a secret", "max_tokens": 3}, headers=headers)
        assert reply["x-request-id"] == "my-id"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    mine = [line for line in lines if line["request_id"] == "my-id"]
    assert len(mine) == 1 and mine[0]["status"] == 200 and mine[0]["traceparent"] == headers["traceparent"]
    assert "secret" not in log.read_text()


def test_a_full_queue_says_when_to_come_back():
    with serving("--max-sequences", 1, "--max-queued", 1) as small:
        with small.connect() as running, small.connect() as waiting:
            running.sendall(http_request(GENERATE, long_story() | {"n": 100}))  # one sample after another
            read_until(running, b"data:")
            end = time.monotonic() + 20
            status = 429
            while status == 429:  # the engine counts the first one as waiting for a moment longer
                assert time.monotonic() < end
                waiting.sendall(http_request(GENERATE, long_story()))
                status = status_of(read_until(waiting, b"\r\n\r\n"))
            status, headers, body = small.request("POST", GENERATE, long_story())
            assert status == 429 and "retry-after" in headers
            assert json.loads(body)["error"]["type"] == "rate_limit_error"
        small.wait_for_metric("bittern:num_requests_running", 0)


# --- broken input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, word",
    [
        (b'{"prompt": "\xff\xfe"}', "UTF-8"),
        (b"[" * 100_000, "deep"),
        (b'{"prompt": "x"', "JSON"),
        (b"", "JSON"),
        (b"[]", "object"),
    ],
    ids=["utf-8", "deep", "cut-off", "empty", "list"],
)
def test_broken_json_is_named(server, body, word):
    status, reply = server.post(GENERATE, body)
    assert status == 400 and word in reply["error"]["message"], reply
    assert reply["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("bytes_", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"\x00" * 100, b"G\xffT / HTTP/1.1\r\n\r\n"], ids=["tls", "short", "zeros", "method"])
def test_what_is_no_http_is_told_so(server, bytes_):
    with server.connect() as connection:
        connection.sendall(bytes_)
        connection.shutdown(socket.SHUT_WR)
        reply = read_all(connection)
    assert reply == b"" or status_of(reply) == 400
    assert server.get("/health")[0] == 200


def test_paths_and_methods(server):
    status, _, body = server.get("/v1/model")
    assert status == 404 and "/v1/models" in json.loads(body)["error"]["message"]
    status, headers, _ = server.request("DELETE", GENERATE)
    assert status == 405 and headers["allow"] == "POST"
    assert server.request("HEAD", "/health")[2] == b""
    assert server.request("OPTIONS", GENERATE)[0] == 204


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as connection:
        ids = [f"id-{i}" for i in range(20)]
        connection.sendall(b"".join(http_request("/health", more=f"x-request-id: {i}\r\n") for i in ids))
        connection.sendall(http_request("/health", more="connection: close\r\n"))
        reply = read_all(connection)
    assert reply.count(b"HTTP/1.1 200") == 21
    assert [part.split(b"\r\n")[0].decode() for part in reply.split(b"x-request-id: ")[1:21]] == ids


def test_expect_100_continue(server):
    with server.connect() as connection:
        body = json.dumps({"prompt": "Once", "max_tokens": 2}).encode()
        head = http_request(GENERATE, body, more="expect: 100-continue\r\nconnection: close\r\n")[: -len(body)]
        connection.sendall(head)
        assert connection.recv(1024).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert status_of(read_all(connection)) == 200


def test_http_1_0_gets_a_stream_without_chunks(server):
    with server.connect() as connection:
        connection.sendall(http_request(GENERATE, long_story(3)).replace(b"HTTP/1.1", b"HTTP/1.0"))
        reply = read_all(connection)
    head, body = reply.split(b"\r\n\r\n", 1)
    assert b"transfer-encoding" not in head and body.startswith(b"data: ") and body.endswith(b"data: [DONE]\n\n")


def test_silent_streams_are_pinged():
    with serving("--max-sequences", 1, "--ping-interval", 0.1) as small:
        with small.connect() as first, small.connect() as second:
            first.sendall(http_request(GENERATE, long_story() | {"n": 100}))
            read_until(first, b"data:")
            second.sendall(http_request(GENERATE, long_story(3) | {"stream": True}))
            read_until(second, b": ping")


# --- keys, origins, TLS ---------------------------------------------------------------------------------------------------


def test_keys_guard_every_route_but_health(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# of the team\nalpha\nbeta\n")
    with serving("--api-key-file", keys, env={"BITTERN_API_KEY": "gamma"}) as guarded:
        assert guarded.get("/health")[0] == 200
        for path in ["/metrics", "/v1/models", "/nowhere"]:
            status, _, body = guarded.get(path)
            assert status == 401 and json.loads(body)["error"]["code"] == "invalid_api_key", path
        for key in ["alpha", "beta", "gamma"]:
            assert guarded.get("/v1/models", headers={"authorization": f"Bearer {key}"})[0] == 200
            assert guarded.get("/v1/models", headers={"x-api-key": key})[0] == 200
        for key in ["", "alph", "alphaa", "delta"]:
            assert guarded.get("/v1/models", headers={"authorization": f"Bearer {key}"})[0] == 401


def test_origins(server):
    status, reply, body = server.request("POST", GENERATE, {"prompt": "x"}, headers={"origin": "http://evil"})
    assert status == 403 and "access-control-allow-origin" not in reply and b"--cors-origin" in body
    assert server.request("POST", GENERATE, {"prompt": "x"}, headers={"origin": server.url})[0] == 200
    with serving("--cors-origin", "http://good") as open_:
        headers = {"origin": "http://good", "access-control-request-headers": "authorization"}
        status, reply, _ = open_.request("OPTIONS", GENERATE, headers=headers)
        assert status == 204 and reply["access-control-allow-origin"] == "http://good"
        assert reply["access-control-allow-headers"] == "authorization"
        assert open_.post(GENERATE, {"prompt": "x"}, headers={"origin": "http://good"})[0] == 200
        assert open_.post(GENERATE, {"prompt": "x"}, headers={"origin": "http://evil"})[0] == 403


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    return folder


def test_tls(certificate):
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    server = Server("--tls-certificate", certificate / "cert.pem", "--tls-key", certificate / "key.pem")
    try:
        assert server.url.startswith("https://")
        body = json.dumps(long_story(30)).encode()
        reply = wait_over_tls(server, context)
        with urllib.request.urlopen(urllib.request.Request(server.url + GENERATE, body), context=context, timeout=30) as reply:
            assert reply.read().endswith(b"data: [DONE]\n\n")
        with context.wrap_socket(server.connect(), server_hostname="127.0.0.1") as leaver:
            leaver.sendall(http_request(GENERATE, long_story()))
            assert leaver.recv(4096)
        end = time.monotonic() + 10
        while b'num_requests_running{model_name="mini"} 0\n' not in urllib.request.urlopen(server.url + "/metrics", context=context).read():
            assert time.monotonic() < end
        with server.connect() as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            read_all(plain)
        assert server.stop() == 0
    finally:
        server.process.kill()


def wait_over_tls(server, context):
    end = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(server.url + "/readyz", context=context, timeout=10).read()
        except urllib.error.HTTPError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_bad_certificate_is_refused(tmp_path, certificate):
    broken = tmp_path / "broken.pem"
    broken.write_text("no")
    result = bittern("serve", "--tls-certificate", broken, "--tls-key", certificate / "key.pem", check=None)
    assert result.returncode == 74 and "--tls-certificate" in result.stderr
    assert "--tls-key" in bittern("serve", "--tls-certificate", certificate / "cert.pem", check=2).stderr


# --- many at once ---------------------------------------------------------------------------------------------------------


def test_many_streams_with_some_that_leave(server):
    errors = []

    def one(index):
        try:
            with server.connect(timeout=120) as connection:
                connection.sendall(http_request(GENERATE, long_story(40), more="connection: close\r\n"))
                if index % 10 == 0:
                    connection.recv(1000)
                    return
                reply = read_all(connection)
                assert b"[DONE]" in reply, reply[-500:]
        except Exception as error:  # noqa: BLE001  (reported by the main thread)
            errors.append(f"{index}: {error!r}")

    threads = [threading.Thread(target=one, args=(i,)) for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    server.wait_for_metric("bittern:num_requests_running", 0)
    server.wait_for_metric("bittern:num_requests_waiting", 0)
