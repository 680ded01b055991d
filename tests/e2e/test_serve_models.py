"""Several models in one server: by name, loaded on demand, unloaded, and within a cap."""

import json
import threading

import pytest
from conftest import MINI, bittern
from serving import serving

NAMES = ["one", "two", "three"]


def spec(names=NAMES):
    return [f"{name}={MINI}" for name in names]


def states(server) -> dict[str, str]:
    status, _, body = server.get("/v1/models")
    assert status == 200
    return {card["id"]: card["status"]["value"] for card in json.loads(body)["data"]}


def ask(server, model, tokens=4):
    return server.post("/v1/completions", {"model": model, "prompt": "Once", "max_tokens": tokens, "temperature": 0})


def test_models_load_when_asked_for_and_unload():
    with serving(*spec()) as server:
        assert states(server) == {"one": "loaded", "two": "unloaded", "three": "unloaded"}
        status, reply = ask(server, "two")
        assert status == 200 and reply["model"] == "two"
        assert server.post("/models/load", {"model": "three"})[0] == 200
        assert server.post("/models/unload", {"model": "one"})[0] == 200
        assert states(server) == {"one": "unloaded", "two": "loaded", "three": "loaded"}
        status, reply = ask(server, "four")
        assert status == 404 and reply["error"]["param"] == "model" and "one, two, three" in reply["error"]["message"]


def test_requests_of_all_models_at_once_are_all_answered():
    with serving(*spec()) as server:
        answers = []
        threads = [threading.Thread(target=lambda n=name: answers.append(ask(server, n))) for name in NAMES * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [200] * len(threads)
        assert len({reply["choices"][0]["text"] for _, reply in answers}) == 1, "they are the same model"


def test_a_cap_pushes_out_the_least_recently_used():
    with serving(*spec(), "--kv-cache-memory", "8MiB", "--models-memory", "60MiB") as server:
        card = server.get("/v1/models/one")
        assert card[0] == 200
        for name in ["two", "one", "three"]:
            assert ask(server, name)[0] == 200, name
        after = states(server)
        assert after["three"] == "loaded" and after["two"] == "unloaded"


def test_a_cap_that_holds_no_model_is_told():
    refused = bittern("serve", "--port", "0", *spec(["one"]), "--models-memory", "1MiB", check=None)
    assert refused.returncode != 0 and "--models-memory" in refused.stderr


@pytest.mark.parametrize("models", [["a=x", "a=y"], ["=x"]])
def test_bad_names_are_refused(models):
    assert bittern("serve", *models, check=None).returncode == 2
