#!/usr/bin/env python3
"""Writes tests/golden/parquet: small files with the columns that published data sets have. Needs pyarrow.

  make_parquet_golden.py [DIRECTORY]
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = [f"Row {i}: a fox counts {i} stars, writes “{i}” down, and then goes home to sleep." for i in range(12)]


def talk(i, role, content, user, assistant):
    return [{role: user, content: f"What is {i} plus {i}?"}, {role: assistant, content: f"It is {2 * i}, as everybody knows."}]


FILES = {
    "text_snappy": ({"id": list(range(12)), "text": TEXTS}, "snappy"),
    "messages_zstd": ({"messages": [talk(i, "role", "content", "user", "assistant") for i in range(6)], "score": [0.5] * 6}, "zstd"),
    "conversations": ({"conversations": [talk(i, "from", "value", "human", "gpt") for i in range(6)]}, "none"),
    "body": ({"body": TEXTS, "title": ["t"] * 12}, "snappy"),
    "bytes": ({"text": [text.encode() for text in TEXTS]}, "none"),
    "gzip": ({"text": TEXTS}, "gzip"),
}


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "tests/golden/parquet"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (columns, codec) in FILES.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression=codec, row_group_size=5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
