"""`bittern bench serve` against a small server whose delays, errors and counts are known."""

import http.server
import json
import threading
import time

import pytest
from conftest import bittern, bittern_json

WAIT, GAP = 0.15, 0.02


class Known(http.server.BaseHTTPRequestHandler):
    """Answers after WAIT seconds, a token every GAP; a word of a prompt counts as two tokens, the template as three."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(200, {"data": [{"id": "known"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state = self.server.state
        state["seen"].append((self.path, body, self.headers.get("authorization")))
        number = len(state["seen"])
        if state["refuse"] and number % state["refuse"] == 0:
            return self.reply(429, {"error": {"message": "the queue is full"}}, [("retry-after", "1")])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.stream(body, cut=state["cut"] and number % state["cut"] == 0)
        except OSError:
            state["left"] += 1
            self.close_connection = True

    def event(self, data: bytes):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self, body, cut):
        time.sleep(WAIT)
        chat = "messages" in body
        if chat:
            self.event(b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n')
        for i in range(body["max_tokens"]):
            choice = {"delta": {"content": "a"}} if chat else {"text": "a"}
            self.event(b": ping\n\ndata: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
            if cut and i == 1:
                self.close_connection = True
                return
            time.sleep(GAP)
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        count = 3 + 2 * len(prompt.split()) if isinstance(prompt, str) else len(prompt)
        usage = {"prompt_tokens": count, "completion_tokens": body["max_tokens"], "prompt_tokens_details": {"cached_tokens": 5}}
        if self.server.state["usage"]:
            self.event(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        self.event(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def known():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Known)
    server.state = {"seen": [], "refuse": 0, "cut": 0, "left": 0, "usage": True}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def bench(server, *options):
    return bittern_json("bench", "serve", "--url", server.url, *options)["results"]


def test_latencies_and_counts(known):
    report = bench(known, "--concurrency", 4, "--requests", 8, "--output-tokens", 5, "--prompt-tokens", 40)
    assert report["requests"] == {"sent": 8, "complete": 8, "cancelled": 0, "failed": 0}
    assert report["output_tokens"] == 40 and report["cached_tokens"] == 40
    # Sleeps are never shorter than asked for; how much longer is the machine's affair.
    assert report["ttft_seconds"]["p50"] >= WAIT
    assert report["gap_seconds"]["count"] == 8 * 4 and report["gap_seconds"]["p50"] >= GAP * 0.9
    assert report["total_seconds"]["p50"] >= WAIT + 5 * GAP
    assert report["seconds"] < 8 * (WAIT + 5 * GAP), "four at a time must be faster than one"


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_words_are_calibrated_to_tokens(known, api):
    report = bench(known, "--api", api, "--requests", 4, "--output-tokens", 2, "--prompt-tokens", 83, "--api-key", "secret")
    assert report["prompt_tokens"] == 4 * 83  # 40 words of two tokens, and three of the template
    assert {path for path, _, _ in known.state["seen"]} == {"/v1/chat/completions" if api == "chat" else "/v1/completions"}
    assert {key for *_, key in known.state["seen"]} == {"Bearer secret"}


def test_ids_have_exact_lengths_and_share_a_prefix(known):
    bench(known, "--prompts", "ids", "--id-range", "7-9", "--requests", 6, "--prompt-tokens", "10-20", "--shared-prefix", 16,
          "--output-tokens", 2, "--ignore-eos", "--min-tokens", "--extra-body", '{"top_k": 3}')
    prompts = [body["prompt"] for _, body, _ in known.state["seen"]]
    assert all(26 <= len(p) <= 36 and set(p) <= {7, 8, 9} for p in prompts)
    assert len({tuple(p[:16]) for p in prompts}) == 1 and len({tuple(p[16:]) for p in prompts}) == 6
    for _, body, _ in known.state["seen"]:
        assert body["ignore_eos"] is True and body["min_tokens"] == body["max_tokens"] == 2 and body["top_k"] == 3


def test_equal_seeds_give_equal_loads(known):
    loads = []
    for seed in (1, 1, 2):
        known.state["seen"].clear()
        bench(known, "--prompts", "ids", "--requests", 3, "--concurrency", 1, "--output-tokens", "1-9", "--prompt-tokens", "2-9", "--seed", seed)
        loads.append([(body["prompt"], body["max_tokens"]) for _, body, _ in known.state["seen"]])
    assert loads[0] == loads[1] != loads[2]


def test_errors_are_counted_by_kind(known):
    known.state["refuse"], known.state["cut"] = 3, 4
    report = bench(known, "--prompts", "ids", "--requests", 12, "--concurrency", 1, "--prompt-tokens", 4, "--output-tokens", 4)
    assert {kind: row["count"] for kind, row in report["errors"].items()} == {"http 429": 4, "cut off": 2}
    assert report["errors"]["http 429"]["first"] == "the queue is full"
    assert report["requests"]["complete"] == 6 and report["requests"]["failed"] == 6


def test_cancelled_requests_leave(known):
    report = bench(known, "--prompts", "ids", "--requests", 5, "--cancel-rate", 1, "--prompt-tokens", 4, "--output-tokens", 30)
    assert report["requests"]["cancelled"] == 5 and report["requests"]["failed"] == 0
    assert 5 <= report["output_tokens"] <= 150


def test_without_usage_events_count(known):
    known.state["usage"] = False
    report = bench(known, "--requests", 2, "--output-tokens", 3, "--prompt-tokens", 8)
    assert report["output_tokens"] == 6 and report["counted_by_server"] is False


def test_arrivals_do_not_wait_for_replies(known, tmp_path):
    records = tmp_path / "records.jsonl"
    bench(known, "--prompts", "ids", "--rate", 200, "--requests", 12, "--prompt-tokens", 4, "--output-tokens", 4, "--records", records)
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    assert max(row["start"] for row in rows) < min(row["end"] for row in rows)


def test_trace_gives_lengths_and_arrivals(known, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,11,3\n2023-11-16 18:15:48.5,12,2\n")
    records = tmp_path / "records.jsonl"
    bench(known, "--prompts", "ids", "--trace", trace, "--replay", 10, "--requests", 2, "--records", records)
    assert [(len(body["prompt"]), body["max_tokens"]) for _, body, _ in known.state["seen"]] == [(11, 3), (12, 2)]
    assert min(r["start"] for r in map(json.loads, records.read_text().splitlines()) if r["output_tokens"] == 2) >= 0.2


def test_goodput_counts_requests_within_the_objective(known):
    options = ("--prompts", "ids", "--requests", 3, "--prompt-tokens", 4, "--output-tokens", 3)
    assert bench(known, *options, "--slo-ttft", "1ms")["slo"]["met"] == 0
    assert bench(known, *options, "--slo-ttft", "60s", "--slo-gap", "1ms")["slo"]["met"] == 0
    assert bench(known, *options, "--slo-ttft", "60s", "--slo-gap", "60s")["slo"]["met"] == 3


def test_page_has_plots_and_loads_nothing(known, tmp_path):
    page = tmp_path / "load.html"
    bench(known, "--requests", 3, "--output-tokens", 3, "--prompt-tokens", 8, "--html", page)
    text = page.read_text()
    assert text.count("<svg") == 2 and "time to first token" in text
    assert "<script" not in text and "http-equiv" in text


def test_wrong_options_are_refused(known):
    for options, named in {
        ("--rate", 5, "--concurrency", 2): "--concurrency",
        ("--api", "chat", "--prompts", "ids"): "--prompts",
        ("--prompt-tokens", "9-3"): "--prompt-tokens",
        ("--slo-ttft", "soon"): "--slo-ttft",
        ("--replay", 1): "--trace",
        ("--url", "127.0.0.1"): "--url",
        ("--cancel-rate", 2): "--cancel-rate",
        ("--extra-body", "[]"): "--extra-body",
    }.items():
        url = () if "--url" in options else ("--url", known.url)
        result = bittern("bench", "serve", *url, *options, check=2)
        assert named in result.stderr, (options, result.stderr)


def test_a_server_that_is_not_there_is_an_error():
    result = bittern("bench", "serve", "--url", "http://127.0.0.1:9", "--requests", 1, check=None)
    assert result.returncode not in (0, 2) and "127.0.0.1:9" in result.stderr and "connect" in result.stderr
