#!/usr/bin/env python3
"""Times Bittern and llama.cpp in turn (A B A B ...) on random weights of the same shapes, and prints medians and ratios.

Usage: bench/compare_llama_cpp.py [--program build/release/bittern] [--configs qwen2.5-0.5b,llama-3.2-1b] [--rounds 3]

llama.cpp comes from PyPI (llama-cpp-python, whose source distribution builds it here for this CPU; minutes, once). Its
GGUF files are made of random blocks: Q4_0 weights beside Bittern's w4a16, or bf16 beside bf16, with a Q8_0 or bf16 head
on both sides. Each measurement is a process of its own. Bittern's figures contain sampling, llama.cpp's end with the
logits, as those of its own llama-bench do, and are the better of flash attention on and off. Nothing is downloaded but
packages.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["llama-cpp-python==0.3.36", "gguf==0.19.0", "numpy==2.4.6"]
CMAKE_ARGS = {
    "native": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF",
    "avx2": "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=OFF"
            " -DLLAVA_BUILD=OFF",
}
# Bittern's name of a format and the GGUF type that holds as many bits.
GGUF_TYPES = {"w4a16": "Q4_0", "w8a16": "Q8_0", "bf16": "BF16", "f16": "F16"}


# --- llama.cpp's side: runs in its virtual environment -----------------------------------------------------------

def random_tensor(numpy, gguf, type_name, out, width):
    """(array, GGML type) of `out` rows of random weights; blocks repeat, which nothing here depends on."""
    kind = gguf.GGMLQuantizationType[type_name]
    random = numpy.random.default_rng(out * 31 + width)
    if type_name in ("BF16", "F16"):
        rows = (random.standard_normal((257, width)) * width ** -0.5).astype("<f4")
        bits = (rows.view("<u4") >> 16).astype("<u2") if type_name == "BF16" else rows.astype("<f2").view("<u2")
        row_bytes = numpy.ascontiguousarray(bits).view("u1").reshape(257, width * 2)
    else:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (257, width // block, size), dtype="u1")
        level = 4.6 if type_name == "Q4_0" else 74.0
        blocks[:, :, :2] = numpy.array([width ** -0.5 / level], dtype="<f2").view("u1")
        row_bytes = blocks.reshape(257, -1)
    return numpy.resize(row_bytes, (out, row_bytes.shape[1])), kind


def write_gguf(path, config, weights, head):
    """A GGUF file of the shapes of `config` (a config.json), without a vocabulary."""
    import gguf
    import numpy
    arch = config["model_type"]
    hidden, ffn, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kv_heads, vocab = config.get("num_key_value_heads", heads), config["vocab_size"]
    dim = config.get("head_dim", hidden // heads)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("none")

    def matrix(name, out, width, type_name):
        data, kind = random_tensor(numpy, gguf, type_name, out, width)
        writer.add_tensor(name, data, raw_dtype=kind)

    def vector(name, width, value):
        writer.add_tensor(name, numpy.full(width, value, dtype="<f4"))

    matrix("token_embd.weight", vocab, hidden, head)
    vector("output_norm.weight", hidden, 1)
    if not config["tie_word_embeddings"]:
        matrix("output.weight", vocab, hidden, head)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"blk.{layer}."
        for part, out, width in [("attn_q", heads * dim, hidden), ("attn_k", kv_heads * dim, hidden),
                                 ("attn_v", kv_heads * dim, hidden), ("attn_output", hidden, heads * dim),
                                 ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden), ("ffn_down", hidden, ffn)]:
            matrix(prefix + part + ".weight", out, width, weights)
            if arch == "qwen2" and part in ("attn_q", "attn_k", "attn_v"):
                vector(prefix + part + ".bias", out, 0)
        vector(prefix + "attn_norm.weight", hidden, 1)
        vector(prefix + "ffn_norm.weight", hidden, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    """One model of llama.cpp, driven through its C interface."""

    def __init__(self, path, threads, tokens, sequences, flash_attention):
        import llama_cpp
        self.c = llama_cpp
        self.c.llama_log_set(_SILENT(self.c), None)
        self.c.llama_backend_init()
        params = self.c.llama_model_default_params()
        self.model = self.c.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            sys.exit(f"compare: llama.cpp cannot load {path}")
        context = self.c.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch = tokens, 2048, 512
        context.n_seq_max, context.kv_unified = sequences, True
        context.flash_attn_type = int(flash_attention)
        context.n_threads = context.n_threads_batch = threads
        self.context = self.c.llama_init_from_model(self.model, context)
        self.batch = self.c.llama_batch_init(2048, 0, 1)

    def info(self):
        return self.c.llama_print_system_info().decode().strip()

    def close(self):
        self.c.llama_batch_free(self.batch)
        self.c.llama_free(self.context)
        self.c.llama_model_free(self.model)

    def clear(self):
        self.c.llama_memory_clear(self.c.llama_get_memory(self.context), True)

    def decode(self, rows):
        """Runs rows of (token, position, sequence, wants logits) in one call and waits for the result."""
        for i, (token, position, sequence, logits) in enumerate(rows):
            self.batch.token[i], self.batch.pos[i] = token, position
            self.batch.n_seq_id[i], self.batch.seq_id[i][0], self.batch.logits[i] = 1, sequence, logits
        self.batch.n_tokens = len(rows)
        status = self.c.llama_decode(self.context, self.batch)
        self.c.llama_synchronize(self.context)
        if status != 0:
            sys.exit(f"compare: llama_decode gave {status}")

    def prompt(self, length, sequence):
        """Seconds to run a prompt, in pieces of 512 tokens."""
        tokens = [(7919 * (i + 1) + 31 * sequence) % 30000 for i in range(length)]
        begin = time.perf_counter()
        for at in range(0, length, 512):
            piece = range(at, min(at + 512, length))
            self.decode([(tokens[i], i, sequence, i == length - 1) for i in piece])
        return time.perf_counter() - begin

    def generate(self, sequences, begin_at, count):
        """Seconds for `count` steps of one token of every sequence."""
        begin = time.perf_counter()
        for step in range(count):
            self.decode([((step * 131 + s) % 30000, begin_at + step, s, True) for s in range(sequences)])
        return time.perf_counter() - begin


def _SILENT(c):
    global _silent_callback  # must outlive the library's use of it
    _silent_callback = c.llama_log_callback(lambda level, text, data: None)
    return _silent_callback


def worker(task):
    """Medians of what `task` asks for. Of flash attention on and off, each figure is the better one's."""
    path = Path(task["gguf"])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(path.with_suffix(".part"), task["config"], task["weights"], task["head"])
        path.with_suffix(".part").rename(path)
    largest = max(task["batches"])
    room = max(max(task["contexts"]) + task["output"] + 1,
               largest * (task["batch_prompt"] + task["output"] * task["repeats"] + 2))
    cases = {}
    for flash_attention in (False, True):
        llama = LlamaCpp(path, task["threads"], room, largest, flash_attention)
        info = llama.info()
        for case, rate in llama_cases(llama, task):
            cases[case] = max(rate, cases.get(case, 0))
        llama.close()
    return {"info": info, "cases": cases}


def llama_cases(llama, task):
    """(case, tokens per second), named as bittern_cases() names them."""
    output, repeats = task["output"], task["repeats"]
    llama.prompt(task["contexts"][0], 0)  # the first one touches memory for the first time
    for context in task["contexts"]:
        prefill, decode = [], []
        for _ in range(repeats):
            llama.clear()
            prefill.append(context / llama.prompt(context, 0))
            decode.append(output / llama.generate(1, context, output))
        yield f"prefill {context}", statistics.median(prefill)
        yield f"decode after {context}", statistics.median(decode)
    for batch in task["batches"]:
        llama.clear()
        for sequence in range(batch):
            llama.prompt(task["batch_prompt"], sequence)
        rates = [batch * output / llama.generate(batch, task["batch_prompt"] + i * output, output)
                 for i in range(repeats)]
        yield f"decode of {batch} together", statistics.median(rates)


# --- both sides in turn ------------------------------------------------------------------------------------------

def python_of_llama(folder, build):
    """The Python of the virtual environment with llama.cpp built as `build`; made when missing."""
    python = folder / "bin" / "python"
    if subprocess.run([python, "-c", "import llama_cpp, gguf"], capture_output=True).returncode == 0 \
            if python.exists() else False:
        return python
    print(f"installing {PACKAGES[0]} into {folder}: llama.cpp is built from source ({CMAKE_ARGS[build]})", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    environment = {**os.environ, "CMAKE_ARGS": CMAKE_ARGS[build], "FORCE_CMAKE": "1"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-binary", "llama-cpp-python",
                    *PACKAGES], check=True, env=environment)
    return python


def run_bittern(options, config, extra):
    command = [options.program, "bench", "latency", "--json", "--random-weights", config, "--weights", options.weights,
               "--group-size", str(options.group_size), "--head-weights", options.head, "--threads",
               str(options.threads), "--kv-cache", "f16", *extra]
    if options.isa:
        command += ["--isa", options.isa]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"compare: {' '.join(map(str, command))} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def bittern_cases(report):
    cases = {}
    for row in report["results"]["contexts"]:
        cases[f"prefill {row['context']}"] = row["prefill_tokens_per_second"]["median"]
        cases[f"decode after {row['context']}"] = row["decode_tokens_per_second"]["median"]
    for row in report["results"]["batches"]:
        cases[f"decode of {row['sequences']} together"] = row["decode_tokens_per_second"]["median"]
    return cases


def run_llama(options, python, task):
    done = subprocess.run([python, __file__, "--worker"], input=json.dumps(task), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"compare: llama.cpp's side failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def lengths(options):
    numbers = {"contexts": options.contexts, "batches": options.batches, "batch_prompt": options.batch_prompt,
               "output": options.output, "repeats": options.repeats}
    flags = []
    for name, value in numbers.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags += ["--" + name.replace("_", "-"), text]
    return numbers, flags


def compare(options, config, python):
    """Rounds of A (each compute mode of Bittern) and B (llama.cpp), as a table of medians."""
    tiny = ["--contexts", "1", "--batches", "1", "--batch-prompt", "1", "--output", "1", "--repeats", "1"]
    facts = run_bittern(options, config, tiny)["results"]["config"]
    weights, head = GGUF_TYPES[options.weights], GGUF_TYPES[options.head]
    numbers, flags = lengths(options)
    task = {"config": facts, "weights": weights, "head": head, "threads": options.threads, **numbers,
            "gguf": str(options.cache / f"{Path(config).stem if '/' in config else config}-{weights}-{head}.gguf")}
    rounds, machine, info = [], {}, ""
    for _ in range(options.rounds):
        figures = {}
        for mode in options.compute:
            report = run_bittern(options, config, flags + ["--compute", mode])
            machine = {**report["machine"], **report["limits"]}
            figures[mode] = bittern_cases(report)
        llama = run_llama(options, python, task)
        info, figures["llama.cpp"] = llama["info"], llama["cases"]
        rounds.append(figures)
    return {"config": config, "weights": weights, "head": head, "machine": machine, "llama_cpp": info,
            "rounds": rounds}


def print_table(result, options):
    machine, rounds = result["machine"], result["rounds"]
    print(f"\n{result['config']}: {options.weights} g{options.group_size}, head {options.head} (llama.cpp: "
          f"{result['weights']}, head {result['head']}), {options.threads} threads, {options.rounds} rounds")
    print(f"{machine['cpu']}, {machine['isa']}; bittern {machine['version']} ({machine['commit']}); "
          f"read {machine['read_bytes_per_second'] / 1e9:.1f} GB/s")
    print(f"llama.cpp: {result['llama_cpp']}")
    header = ["tokens/s", "llama.cpp"] + [part for mode in options.compute for part in (f"bittern {mode}", "ratio")]
    rows = [header]
    for case in rounds[0]["llama.cpp"]:
        other = statistics.median(r["llama.cpp"][case] for r in rounds)
        row = [case, f"{other:.1f}"]
        for mode in options.compute:
            ours = [r[mode][case] for r in rounds]
            ratios = [r[mode][case] / r["llama.cpp"][case] for r in rounds]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            row += [f"{statistics.median(ours):.1f}", spread]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for i, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if i == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|", flush=True)


def parse_arguments():
    numbers = lambda text: [int(part) for part in text.split(",")]
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/bittern")
    parser.add_argument("--configs", type=words, default=["qwen2.5-0.5b", "llama-3.2-1b"])
    parser.add_argument("--weights", choices=GGUF_TYPES, default="w4a16")
    parser.add_argument("--group-size", type=int, default=128, help="of Bittern's weights; Q4_0 has groups of 32")
    parser.add_argument("--head", choices=GGUF_TYPES, default="w8a16")
    parser.add_argument("--compute", type=words, default=["auto", "int8"], help="modes of Bittern, each against llama.cpp")
    parser.add_argument("--build", choices=CMAKE_ARGS, default="native", help="instruction sets llama.cpp is built for")
    parser.add_argument("--isa", default="", help="of Bittern; avx2 beside --build avx2")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--contexts", type=numbers, default=[512])
    parser.add_argument("--batches", type=numbers, default=[16, 32])
    parser.add_argument("--batch-prompt", type=int, default=64)
    parser.add_argument("--output", type=int, default=16, help="tokens of one timing")
    parser.add_argument("--repeats", type=int, default=5, help="timings in one process")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs")
    parser.add_argument("--venv", type=Path, help="default: .venv-llama, .venv-llama-avx2")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/compare-llama-cpp", help="where GGUF files are kept")
    parser.add_argument("--json", type=Path, help="write every round to this file too")
    return parser.parse_args()


def main():
    if sys.argv[1:] == ["--worker"]:
        print(json.dumps(worker(json.load(sys.stdin))))
        return
    options = parse_arguments()
    suffix = "" if options.build == "native" else "-" + options.build
    python = python_of_llama(options.venv or ROOT / (".venv-llama" + suffix), options.build)
    results = []
    for config in options.configs:
        results.append(compare(options, config, python))
        print_table(results[-1], options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
