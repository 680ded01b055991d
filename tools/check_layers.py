#!/usr/bin/env python3
"""Checks that includes point downwards alone: a table of what each folder may include, and a loop over #include lines.

Each breach is printed as file:line. It looks at quoted includes of our own folders; <system> headers are free, except
that headers of <bittern/...> (the public API) may be included from everywhere.
Usage: check_layers.py [ROOT]
"""

import re
import sys
from pathlib import Path

# folder -> what it may include besides itself. The order is the order of the layers, lowest first.
ALLOWED = {
    "base": set(),
    "tensor": {"base"},
    "backend": {"tensor", "base"},
    "nn": {"backend", "tensor", "base"},
    "models": {"nn", "backend", "tensor", "base"},
    "text": {"base"},
    "quant": {"models", "nn", "backend", "tensor", "text", "base"},
    "engine": {"models", "nn", "backend", "tensor", "base"},
    "server": {"engine", "text", "models", "nn", "backend", "tensor", "base"},
    "apps": {"server", "engine", "quant", "text", "models", "nn", "backend", "tensor", "base"},
}
SOURCES = {".h", ".cpp", ".c", ".cu", ".cuh", ".inl", ".in"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def folder_of(path: Path) -> str:
    """Layer of a path relative to the root: src/nn/linear.h -> nn, apps/bittern/main.cpp -> apps."""
    return path.parts[1] if path.parts[0] == "src" else path.parts[0]


def breaches(root: Path, path: Path):
    """Yields (line number, included name, reason) for each include of `path` that the table forbids."""
    folder = folder_of(path)
    for number, line in enumerate((root / path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        included = match.group(1)
        target = included.split("/")[0]
        if ".." in included.split("/"):
            yield number, included, "paths start at src/, not at .."
        elif target in ALLOWED and target != folder and target not in ALLOWED[folder]:
            yield number, included, f"{folder} may include {', '.join(sorted(ALLOWED[folder])) or 'nothing'}"


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    tops = [root / "src", root / "apps"]
    files = sorted(p.relative_to(root) for top in tops if top.is_dir() for p in top.rglob("*")
                   if p.suffix in SOURCES and "target" not in p.parts)
    failures = 0
    for path in files:
        if folder_of(path) not in ALLOWED:
            print(f"{path}:1: folder '{folder_of(path)}' is not in the table of tools/check_layers.py")
            failures += 1
            continue
        for number, included, reason in breaches(root, path):
            print(f'{path}:{number}: includes "{included}": {reason}')
            failures += 1
    if not files:
        print(f"no sources under {root}", file=sys.stderr)
        return 2
    print(f"{len(files)} files checked, {failures} breaches")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
