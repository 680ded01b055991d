#!/usr/bin/env bash
# The main job, shown: quantizes the embedded model to 4-bit weights, prints memory, quality and speed before and after,
# with and without an 8-bit KV cache, and chats. Needs build/release/bittern (make demo builds it first).
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1:-build/release/bittern}
work=build/demo
rm -rf "$work"
mkdir -p "$work"

run() {
  printf '\n$ bittern %s\n' "$*"
  "$program" "$@"
}

run show
run quantize --scheme w4a16 --algorithm rtn --group-size 128 -o "$work/mini-w4"
run show "$work/mini-w4"

printf '\nMeasuring four configurations on held-out text and tasks (models/mini/text, models/mini/tasks)\n'
measure() {  # measure NAME MODEL KV
  "$program" eval kl $2 --kv-cache "$3" --reference models/mini --reference-kv-cache bf16 --data models/mini/text/heldout.txt --json >"$work/$1.kl.json"
  "$program" eval tasks $2 --kv-cache "$3" --data models/mini/tasks/heldout.jsonl --json >"$work/$1.tasks.json"
  "$program" generate $2 --kv-cache "$3" --max-sequences 1 --temperature 0 --ignore-eos --max-tokens 256 --json \
    -p "Tell me a story about a cat." >"$work/$1.speed.json"
}
measure plain "" bf16
measure plain-kv8 "" int8
measure w4 "$work/mini-w4" bf16
measure w4-kv8 "$work/mini-w4" int8
python3 scripts/demo_table.py "$work" plain plain-kv8 w4 w4-kv8

if [ -t 0 ] && [ -t 1 ]; then
  printf '\nChat with the quantized model (/help, /bye or Ctrl-D to leave)\n\n'
  "$program" chat "$work/mini-w4" --kv-cache int8
else
  printf '\n$ bittern chat %s --kv-cache int8\n' "$work/mini-w4"
  for line in "Hello! How are you today?" "What is 23 plus 45?" "Tell me a short story about a dog."; do
    printf '>>> %s\n' "$line"
  done
  printf '%s\n' "Hello! How are you today?" "What is 23 plus 45?" "Tell me a short story about a dog." |
    "$program" chat "$work/mini-w4" --kv-cache int8 --temperature 0
fi
