#!/bin/sh
# Fails if an object file compiled for one instruction set defines a weak symbol, and names file and symbol.
# The linker keeps a single copy of a weak symbol (an inline function, a template, a vtable); were that the copy
# compiled for AVX-512, code that runs on every CPU would call it. It does not check the instructions themselves.
# Usage: check_isa_symbols.sh NM OBJECT...
set -eu
nm=$1
shift
[ $# -gt 0 ] || { echo "check_isa_symbols: no object file given" >&2; exit 2; }
status=0
for object in "$@"; do
  symbols=$("$nm" -C --defined-only "$object")
  # W/w: weak function, V/v: weak object, u: unique global (a static of an inline function).
  weak=$(printf '%s\n' "$symbols" | grep -E '^[0-9a-f]+ [WwVvu] ' || true)
  if [ -n "$weak" ]; then
    printf '%s defines weak symbols; make them static or move them out:\n%s\n' "$object" "$weak" >&2
    status=1
  fi
done
[ $status -ne 0 ] || echo "$# object files, no weak symbol"
exit $status
