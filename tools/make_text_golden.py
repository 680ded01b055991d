#!/usr/bin/env python3
"""Records what Hugging Face's tokenizers and jinja2 give for tricky inputs, as small JSON files in tests/golden/text.

Needs a venv with: tokenizers==0.23.1 jinja2==3.1.2. Real tokenizers come from BITTERN_SHARED_DATA (default
../shared/data beside the project) and models/mini; only ids and texts are written, never vocabularies.
Usage: make_text_golden.py
"""

import json
import os
import random
from pathlib import Path

import tokenizers
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("BITTERN_SHARED_DATA", ROOT.parent / "shared" / "data"))
OUT = ROOT / "tests" / "golden" / "text"

TEXTS = [
    "", " ", "  ", "\n", "\t \n\n", "a", " a", "a ", "Hello, world!", "  leading and trailing  ", "tabs\tand\nlines\r\n",
    "I'll they've WE'RE don't", "1234567890 3.14159 1,000,000", "x=1;y+=2//z", "http://example.com/a?b=c&d=%20#e",
    "naïve café Zürich Ærøskøbing", "e\u0301 n\u0303 \u1e9e ﬁ ﬀ", "你好,世界。", "こんにちは カタカナ", "안녕하세요", "Привет, мир",
    "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "ไทยไม่มีช่องว่าง", "😀👍🏽👩‍👩‍👧‍👦🇩🇪", "\U0001d518\U00013000\U0010ffff",
    "zero\u200bwidth\u200d\ufeffbom", "\u00a0nbsp\u2003em\u3000ideographic", "\u2581piece\u2581mark", "<s>", "</s>", "a<s>b", "<s> a </s>",
    "<s><s></s>", "<unk>x", "<|end|>", "<|user|>hi<|end|>", "hi <|end|> there", "<|endoftext|><|endoftext|>", "<0x41><0xE5>", "a" * 300,
    " " * 50, "\n" * 20, "def f(x):\n    return x ** 2\n", "{\"k\": [1, 2, {\"a\": null}]}", "ab" * 100 + "  " + "c" * 40,
    "\x01\x02\x7f control", "line\u2028sep\u2029para\u0085nel", "½ ² ① Ⅷ ٣ ३",
]


def sample_texts():
    """The fixed strings and seeded mixtures of their characters."""
    rng = random.Random(7)
    alphabet = [c for text in TEXTS for c in text] + [" "] * 40
    return TEXTS + ["".join(rng.choices(alphabet, k=rng.randint(1, 60))) for _ in range(60)]


def read_llama2(path):
    """The shared copy of Llama 2's tokenizer.json has plain spaces where its four pieces with no-break spaces were, and
    no library can read it so; tokenizer.model beside it has them right."""
    document = json.loads(path.read_text(encoding="utf-8"))
    model = document["model"]
    model["vocab"] = {piece.replace(" ", "\u00a0"): id for piece, id in model["vocab"].items()}
    repaired = {"   ": "\u00a0 \u00a0", "     ": "\u00a0\u00a0 \u00a0\u00a0", "\u2581  ": "\u2581 \u00a0"}
    model["merges"] = [repaired.get(merge, merge) for merge in model["merges"]]
    return json.dumps(document)


def record_tokenizer(name, text, extra):
    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rng = random.Random(11)
    size = tokenizer.get_vocab_size()
    cases = []
    for text in sample_texts() + extra:
        tokenizer.encode_special_tokens = False
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        both = tokenizer.encode(text, add_special_tokens=True).ids
        tokenizer.encode_special_tokens = True
        cases.append({"text": text, "ids": plain, "with_special": both,
                      "as_text": tokenizer.encode(text, add_special_tokens=False).ids})
    decodes = [case["with_special"] for case in cases if len(case["with_special"]) < 80]
    decodes += [[rng.randrange(size) for _ in range(rng.randint(1, 40))] for _ in range(60)]
    decodes = [{"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True),
                "full": tokenizer.decode(ids, skip_special_tokens=False)} for ids in decodes]
    write(f"tokenizer_{name}.json", {"recorded_with": f"tokenizers {tokenizers.__version__}", "encode": cases,
                                     "decode": decodes})


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        from jinja2.exceptions import TemplateError
        raise TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


CONTEXT = {
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": " Hi <b>é "},
                 {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYo", "n": 2.0}],
    "s": "  The quick, brown fox\n", "csv": "a,b,,c", "n": 7, "f": 1.5, "yes": True, "no": False, "nil": None,
    "list": [3, 1, 2], "dict": {"b": 1, "a": [1, {"x": "é\"\\\n"}], "items": 5}, "words": ["x", "Y", "z"], "empty": [],
}

# One per line; every one is rendered with CONTEXT.
SNIPPETS = r"""
{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ s|trim }}
{{ csv.split(',') }}|{{ csv.split(',', 1) }}|{{ csv.rsplit(',', 1) }}|{{ s.split() }}|{{ csv.split(',')[-1] }}
{{ csv.partition(',') }}|{{ csv.rpartition(',') }}
{{ s.upper() }}{{ s.lower() }}{{ s.title() }}{{ s.strip().capitalize() }}{{ s.swapcase() }}
{{ csv.replace(',', ';') }}|{{ csv.replace(',', ';', 1) }}|{{ csv.count(',') }}|{{ csv.find('b') }}|{{ csv.rfind('q') }}
{{ csv.startswith('a') }}|{{ csv.startswith(('x', 'a')) }}|{{ csv.endswith('c') }}
{{ csv.removeprefix('a,') }}|{{ csv.removesuffix('c') }}|{{ '7'.zfill(3) }}|{{ '-7'.zfill(4) }}
{{ 'ab'.center(7, '*') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}
{{ 'a\nb\r\nc'.splitlines() }}|{{ 'abc'.isalpha() }}|{{ '12'.isdigit() }}|{{ ' '.isspace() }}
{{ '{} and {}'.format(1, 'x') }}|{{ '-'.join(words) }}|{{ '%s-%d'|format('a', 3) }}
{{ '%s-%d' % ('a', 3) }}
{{ messages[::-1]|map(attribute='role')|join(',') }}|{{ csv[::-1] }}|{{ list[1:] }}|{{ list[:-1] }}|{{ list[-1] }}
{{ list|sort }}|{{ list|first }}|{{ list|last }}|{{ list|length }}|{{ list|sum }}|{{ list|max }}|{{ list|min }}
{{ words|map('upper')|list }}|{{ words|select('equalto', 'x')|list }}|{{ words|reject('equalto', 'x')|list }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }}|{{ messages|rejectattr('role', 'equalto', 'user')|list|length }}
{{ dict|tojson }}
{{ dict|tojson(indent=2) }}
{{ dict|tojson(ensure_ascii=True) }}
{{ dict|tojson(separators=(',', ':')) }}
{{ dict|tojson(sort_keys=True) }}
{{ f|tojson }}{{ n|tojson }}{{ yes|tojson }}{{ nil|tojson }}{{ 2.0|tojson }}{{ [] |tojson(indent=2) }}{{ {}|tojson }}
{{ dict.items()|list }}|{{ dict.keys()|list }}|{{ dict.values()|list }}|{{ dict.get('b') }}|{{ dict.get('q', 'd') }}
{% for k, v in dict|items %}{{ k }}={{ v }};{% endfor %}
{% for k, v in dict|dictsort %}{{ k }};{% endfor %}
{{ dict }}|{{ list }}|{{ nil }}|{{ yes }}|{{ no }}|{{ f }}|{{ [nil, yes, 'q', "it's"] }}
{{ missing }}|{{ missing is defined }}|{{ missing|default('d') }}|{{ ''|default('d', true) }}|{{ nil is none }}
{{ n is number }}|{{ s is string }}|{{ list is iterable }}|{{ s is iterable }}|{{ dict is mapping }}|{{ list is sequence }}|{{ s is sequence }}|{{ dict is sequence }}
{{ yes is true }}|{{ yes is boolean }}|{{ n is boolean }}|{{ n is odd }}|{{ 4 is even }}|{{ 9 is divisibleby(3) }}|{{ n in list }}|{{ 'x' in words }}|{{ 'b' in dict }}
{{ 'quick' in s }}|{{ not no }}|{{ yes and 'a' or 'b' }}|{{ 'a' if no else 'b' }}|{{ 'a' if no }}
{{ 7 // 2 }}|{{ 7 / 2 }}|{{ 7 % 3 }}|{{ 2 ** 5 }}|{{ -7 // 2 }}|{{ 1 ~ 'a' ~ nil }}|{{ 'ab' * 3 }}|{{ [1] + [2] }}
{% set ns = namespace(x=0) %}{% for i in range(5) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}
{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.length }};{% endfor %}
{% for m in messages if m.role != 'system' %}{{ m.role }}{% else %}none{% endfor %}{% for m in empty %}x{% else %}none{% endfor %}
{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role if loop.nextitem is defined else '-' }};{% endfor %}
{% macro f(a, b='B') %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(a=3, b=4) }}
{% set x %}block {{ n }}{% endset %}{{ x }}{% filter upper %}abc{% endfilter %}
{%- if yes %}  a  {%- endif %}  b  {{- n -}}  c
{% raw %}{{ x }}{% endraw %}{# comment #}{{ "{% generation %}" }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set l = [1, 2] %}{{ l }}{{ (1, 2) }}{{ (1,) }}
{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% endif %}{{ rest|length }}
{{ messages[2].content.split('</think>')[-1].lstrip('\n') }}|{{ messages[2].content.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}
{{ messages[2].n }}|{{ 1e3 }}|{{ 10 | int }}|{{ '12'|int + 1 }}|{{ 'x'|int(5) }}|{{ 3.7|round }}|{{ 3.14159|round(2) }}|{{ 3|string }}|{{ '2.5'|float }}
{{ s|length }}|{{ s|upper }}|{{ s|capitalize }}|{{ s|title }}|{{ s|replace('quick', 'slow') }}|{{ s|wordcount }}
{{ 'a\nb'|indent(2) }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\nb'|indent(width=4, first=True) }}
{{ words|join(' ') }}|{{ words|unique|list }}|{{ words|reverse|list }}|{{ words|batch(2)|list }}|{{ dict|length }}
{{ '<b>'|e }}|{{ '<b>'|escape }}|{{ '<b>'|safe }}
{{ messages|map(attribute='content')|map('length')|list }}|{{ words|list + ['q'] }}|{{ list|map('string')|join('+') }}
{{ messages[0].missing }}|{{ messages[0]['missing'] is defined }}|{{ messages[0].get('missing') is none }}
{{ range(3)|list }}|{{ range(1, 6, 2)|list }}|{{ loop is defined }}|{{ dict['items'] }}|{{ dict.b }}
{{ missing.attr }}
{{ messages[0].missing.more }}
{{ 'a' + 1 }}
{{ 'a' + dict }}
{{ list + 'a' }}
{{ list.append(4) }}
{{ dict.pop('a') }}
{{ dict.update({}) }}
{{ raise_exception('no ' ~ n) }}
{{ missing|tojson }}
{{ missing() }}
{{ 'x'|nosuchfilter }}
{% if %}
{{ 1 / 0 }}
{{ csv.index('q') }}
{{ 'a'.split('') }}
{% for x in n %}{% endfor %}
{{ 'a' + missing }}
{{ n.foo }}|{{ s.foo is defined }}
{{ 'aßΣ'.casefold() }}|{{ 'x\x1cy\u00a0z'.split() }}|{{ '\u3000a\x1f'.strip() + '|' }}
""".strip().split("\n")


def record_jinja():
    import jinja2
    cases = []
    for source in SNIPPETS:
        try:
            result = environment().from_string(source).render(**CONTEXT)
        except Exception as error:  # every exception of a template is a result here
            cases.append({"source": source, "error": type(error).__name__, "message": str(error)})
        else:
            cases.append({"source": source, "text": result})
    write("jinja.json", {"recorded_with": f"jinja2 {jinja2.__version__}", "context": CONTEXT, "cases": cases})


def write(name, value):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("},{", "},\n{") + "\n")


if __name__ == "__main__":
    record_jinja()
    record_tokenizer("llama2", read_llama2(SHARED / "tokenizers" / "llama2" / "tokenizer.json"), [])
    for name, path in [("stories260K", SHARED / "models" / "stories260K"), ("mini", ROOT / "models" / "mini")]:
        record_tokenizer(name, (path / "tokenizer.json").read_text(encoding="utf-8"),
                         ["<|system|>s<|user|>u<|assistant|>"])
