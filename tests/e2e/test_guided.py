"""Guided decoding through the program: whatever the model would like to say, the answer is what was asked for."""

import json
import re

import pytest

from conftest import bittern, bittern_json

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (tests/e2e/requirements.txt)")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 16},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS = {
    "person": PERSON,
    "list": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 4},
    "nested": {
        "type": "object",
        "properties": {"people": {"type": "array", "items": PERSON, "maxItems": 2}, "ok": {"type": "boolean"}},
        "required": ["people", "ok"],
        "additionalProperties": False,
    },
    "ref": {
        "$defs": {"pair": {"type": "array", "prefixItems": [{"type": "integer", "minimum": 1, "maximum": 9}, {"const": "x"}],
                           "items": False, "minItems": 2}},
        "type": "object",
        "properties": {"first": {"$ref": "#/$defs/pair"}, "second": {"$ref": "#/$defs/pair"}},
        "required": ["first", "second"],
        "additionalProperties": False,
    },
    "union": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"],
                                           "additionalProperties": False}]},
    "one of": {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "string", "maxLength": 3}]},
    "all of": {"allOf": [{"type": "integer", "minimum": 10}, {"maximum": 20}]},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "number": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.5},
    "multiple": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
    "text": {"type": "string", "maxLength": 20},
    "map": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 99, "minimum": 0},
            "minProperties": 1, "maxProperties": 3},
    "properties by pattern": {"type": "object", "patternProperties": {"^k[0-9]$": {"type": "boolean"}},
                              "additionalProperties": False, "minProperties": 1, "maxProperties": 2},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_is_always_valid(name):
    schema = SCHEMAS[name]
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    report = bittern_json("generate", "-p", "Tell me something.", "--json-schema", json.dumps(schema), "--n", 24,
                          "--temperature", 1.5, "--seed", 3, "--max-tokens", 400, "--max-sequences", 24)
    finished = [sample for sample in report["samples"] if sample["finish_reason"] == "stop"]
    assert len(finished) >= 12, [sample["finish_reason"] for sample in report["samples"]]
    for sample in finished:
        validator.validate(json.loads(sample["text"]))


def test_samples_differ_and_repeat_with_their_seed():
    ask = ["generate", "-p", "A person.", "--json-schema", json.dumps(PERSON), "--n", 8, "--temperature", 1.2, "--seed", 5,
           "--deterministic"]
    first, second = (sorted(s["text"] for s in bittern_json(*ask)["samples"]) for _ in range(2))
    assert first == second
    assert len(set(first)) > 1


def test_choice_regex_grammar_and_object():
    def answer(*options, temperature=1):
        common = ("-p", "Say anything.", "--temperature", temperature, "--seed", 1)
        return bittern("generate", *common, *options).stdout.strip()

    assert answer("--choice", "north by north-west", "--choice", "south") in ("north by north-west", "south")
    assert re.fullmatch(r"[0-9]{3}-[a-f]{2}", answer("--regex", "[0-9]{3}-[a-f]{2}"))
    assert re.fullmatch(r"(ab)+c", answer("--grammar", 'start: ("ab")~1..4 "c"'))
    assert isinstance(json.loads(answer("--json-object", "--max-tokens", 700, temperature=0)), dict)


def test_a_schema_may_come_from_a_file(tmp_path):
    (tmp_path / "schema.json").write_text(json.dumps({"const": "only this"}))
    assert bittern("generate", "-p", "Hello", "--json-schema", tmp_path / "schema.json").stdout == '"only this"\n'


def test_what_cannot_be_honoured_is_named():
    refused = bittern("generate", "-p", "x", "--json-schema", '{"type":"array","uniqueItems":true}', check=None)
    assert refused.returncode == 2 and "uniqueItems" in refused.stderr
    both = bittern("generate", "-p", "x", "--regex", "a", "--choice", "b", check=None)
    assert both.returncode == 2 and "--regex" in both.stderr and "--choice" in both.stderr
