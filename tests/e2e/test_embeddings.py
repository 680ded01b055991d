"""/v1/embeddings with the openai package: shapes, encodings, and the numbers of a float64 network."""

import math
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads would wait for each other
import numpy  # noqa: E402
import openai  # noqa: E402
import pytest  # noqa: E402
from conftest import MINI, ROOT  # noqa: E402
from serving import serving  # noqa: E402

sys.path.insert(0, str(ROOT / "tools"))
from quality_reference import Llama, Tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def client(program):
    with serving(f"mini={MINI}", "--kv-cache", "f32", "--compute", "f32") as server:
        yield openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def length(vector):
    return math.sqrt(sum(x * x for x in vector))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def test_one_vector_for_each_input_whatever_the_encoding(client):
    texts = ["The cat sat on the mat.", "A cat sits on a mat.", "Seven times eight is fifty-six."]
    plain = client.embeddings.create(model="mini", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="mini", input=texts, encoding_format="base64")
    assert [d.index for d in plain.data] == [0, 1, 2] and plain.usage.prompt_tokens > 10
    assert all(len(d.embedding) == 256 and length(d.embedding) == pytest.approx(1, abs=1e-5) for d in plain.data)
    default = client.embeddings.create(model="mini", input=texts)  # the package asks for base64 and decodes it
    for a, b in zip(plain.data, default.data):
        assert a.embedding == pytest.approx(b.embedding, abs=1e-6)
    assert isinstance(packed.data[0].embedding, (str, list))
    cat, also, sum_ = (d.embedding for d in plain.data)
    assert cosine(cat, also) > cosine(cat, sum_)


def test_alone_equals_in_a_batch_and_ids_equal_text(client):
    texts = ["Once upon a time", "there was a sheep " * 20]
    together = client.embeddings.create(model="mini", input=texts, encoding_format="float").data
    for text, entry in zip(texts, together):
        alone = client.embeddings.create(model="mini", input=text, encoding_format="float").data[0].embedding
        assert alone == pytest.approx(entry.embedding, abs=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_numbers_are_those_of_a_float64_network(client, pooling):
    network, tokenizer = Llama(MINI), Tokenizer(MINI)
    text = "One day the weather was cloudy."
    states = network.hidden_states(tokenizer.encode(text))
    wanted = states.mean(0) if pooling == "mean" else states[-1]
    got = client.embeddings.create(model="mini", input=text, encoding_format="float", extra_body={"pooling": pooling})
    assert got.data[0].embedding == pytest.approx((wanted / numpy.linalg.norm(wanted)).tolist(), abs=1e-5)


def test_dimensions_cut_and_scale_again(client):
    whole = client.embeddings.create(model="mini", input="cat", encoding_format="float").data[0].embedding
    cut = client.embeddings.create(model="mini", input="cat", encoding_format="float", dimensions=16).data[0].embedding
    assert len(cut) == 16 and length(cut) == pytest.approx(1, abs=1e-5)
    assert cut == pytest.approx([x / length(whole[:16]) for x in whole[:16]], abs=1e-5)


@pytest.mark.parametrize(
    "more, param",
    [({"input": ""}, "input"), ({"input": []}, "input"), ({"dimensions": 257}, "dimensions"), ({"input": [[1, 99999]]}, "input"),
     ({"encoding_format": "hex"}, "encoding_format"), ({"input": "cat " * 3000}, "input"), ({"extra_body": {"pooling": "max"}}, "pooling")],
)
def test_what_is_wrong_is_named(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**({"model": "mini", "input": "cat", "encoding_format": "float"} | more))
    assert refused.value.body["param"].startswith(param), refused.value
