"""deploy/: every metric that the dashboard and the rules name is one that a server exposes; Prometheus itself agrees."""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
from serving import http_request, long_story, serving

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "bittern.json").read_text())
RULES = (DEPLOY / "prometheus" / "rules.yml").read_text()
METRIC = re.compile(r"\bbittern:[a-z0-9_]+")
needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus") or not shutil.which("promtool"),
                                      reason="Debian's prometheus is not installed")


def expressions():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        assert running.post("/v1/completions", {"prompt": "Hello", "max_tokens": 4, "ignore_eos": True})[0] == 200
        # A counter with labels appears with its first count: of clients that left, here.
        with running.connect() as leaver:
            leaver.sendall(http_request("/v1/completions", long_story()))
            leaver.recv(1)
        running.wait_for_metric("bittern:http_disconnects_total", 1)
        yield running


def test_named_metrics_exist(server):
    exposed = {re.split(r"[ {]", line)[0] for line in server.get("/metrics")[2].decode().splitlines() if line[:1] not in ("#", "")}
    variables = json.dumps(DASHBOARD["templating"])
    named = set(METRIC.findall(" ".join(expressions()) + RULES + variables))
    assert len(named) > 15
    assert named <= exposed, named - exposed


def test_labels_of_the_dashboard_exist(server):
    text = server.get("/metrics")[2].decode()
    for label in ("model_name", "finished_reason", "status", "version", "le"):
        assert f'{label}="' in text


@needs_prometheus
def test_promtool_accepts_the_files():
    subprocess.run(["promtool", "check", "rules", DEPLOY / "prometheus" / "rules.yml"], check=True, capture_output=True)
    subprocess.run(["promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml"], check=True, capture_output=True)


class Prometheus:
    def __init__(self, folder, target, port):
        config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8000", target).replace("scrape_interval: 5s", "scrape_interval: 1s")
        (folder / "prometheus.yml").write_text(config)
        shutil.copy(DEPLOY / "prometheus" / "rules.yml", folder)
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            return json.load(reply)["data"]

    def query(self, expression):
        return self.ask("/api/v1/query?query=" + urllib.parse.quote(expression))["result"]

    def wait_for(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if result := self.query(expression):
                    return result
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"Prometheus has nothing for {expression}")


@needs_prometheus
def test_prometheus_scrapes_a_running_server(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prometheus = Prometheus(tmp_path, f"{server.host}:{server.port}", port)
    try:
        prometheus.wait_for('up{job="bittern"} == 1')
        prometheus.wait_for("count_over_time(bittern:build_info[1m]) >= 3")  # rates need two points
        for expression in expressions():
            asked = re.sub(r'=~"\$\w+"', '=~".*"', expression).replace("$__rate_interval", "1m")
            assert prometheus.query(asked), f"no data for {asked}"
        groups = prometheus.ask("/api/v1/rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        assert all(target["lastError"] == "" for target in prometheus.ask("/api/v1/targets")["activeTargets"])
    finally:
        prometheus.process.terminate()
        prometheus.process.wait(20)


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_accepts_its_file(tmp_path):
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; include {DEPLOY}/nginx.conf; }}")
    subprocess.run(["nginx", "-t", "-c", main], check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
def test_haproxy_accepts_its_file():
    subprocess.run(["haproxy", "-c", "-f", DEPLOY / "haproxy.cfg"], check=True, capture_output=True)
