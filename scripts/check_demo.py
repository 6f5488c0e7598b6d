#!/usr/bin/env python3
"""Checks that the demo saw what it must: exits 0 only where the whole story holds."""

import json
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
GRAPH = ("prepacking", "memory", "basic", "extended", "all")
HARMLESS = ("identical", "equivalent", "not_applied")


def expect(holds: bool, what: str) -> None:
    """Stops with a sentence where something does not hold."""
    if not holds:
        sys.exit(f"the demo did not show what it should: {what}")


def check_verdicts(run: Path, sent: int) -> None:
    """Graph stages harmless, int8-bad guilty, production reproduced and judged."""
    verdicts = json.loads((run / "verdicts.json").read_text())
    stages = {s["name"]: s for s in verdicts["stages"]}
    expect(verdicts["requests"] == sent, f"{verdicts['requests']} of {sent} requests replayed")
    for name in GRAPH:
        expect(stages[name]["verdict"] in HARMLESS, f"{name} is {stages[name]['verdict']}")
    # Another CPU may round a few more answers of int8-good: never so many that it is found guilty.
    expect(stages["int8-good"]["verdict"] != "affects", "int8-good affects the metric")
    for name in ("int8-bad", "int8-bad-production", "recorded"):
        metric = stages[name]["metrics"][0]
        expect(stages[name]["verdict"] == "affects", f"{name} is {stages[name]['verdict']}")
        expect(metric["direction"] == "worse" and metric["interval"][1] < 0, f"{name}: {metric}")
    expect(
        "int8-bad-production" in verdicts["production_matches"],
        f"production is reproduced by {verdicts['production_matches']}",
    )


def check_capture(capture: Path, sent: int) -> None:
    """The recorded tensors are, bit for bit, those that were sent; two strangers can read them."""
    images = np.load(ROOT / "tests/fixtures/digits/heldout.npz")["images"]
    table = pq.read_table(capture)
    expect(table.num_rows == sent, f"pyarrow reads {table.num_rows} rows, {sent} were sent")
    seen = {"oip-rest": 0, "oip-rest-binary": 0}
    for row in table.select(["client_request_id", "protocol", "inputs"]).to_pylist():
        (tensor,) = row["inputs"]
        image = images[int(row["client_request_id"].removeprefix("digit-"))]
        same = tensor["data"] == image.tobytes() and tensor["shape"] == [1, 1, 8, 8]
        expect(same, f"{row['client_request_id']} was recorded with other bytes than were sent")
        seen[row["protocol"]] += 1
    expect(min(seen.values()) == sent // 2, f"half JSON, half binary: {seen}")
    query = f"select count(*), count(distinct input_digest) from '{capture}/*.parquet'"
    rows, digests = duckdb.sql(query).fetchone()
    expect(rows == sent and digests > 0.9 * sent, f"DuckDB reads {rows} rows, {digests} digests")


def main() -> None:
    """check_demo.py OUT SENT REPLAY_STATUS"""
    out, sent, status = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    expect(status == 1, f"replay exited {status}, not 1")
    check_verdicts(out / "run", sent)
    check_capture(out / "capture", sent)
    print("the demo saw what it expects")


if __name__ == "__main__":
    main()
