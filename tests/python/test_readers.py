"""Strangers read what the recorder writes: pyarrow and DuckDB, also while it grows."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import FIXTURE, ROOT, Programs, binary, by_halves, rows

PAYLOADS = (
    "inputs.list.item.data",
    "outputs.list.item.data",
    "request_body",
    "response_body",
)


def serve(programs: Programs) -> str:
    """The digits network as production; always the full build."""
    model = str(FIXTURE / "digits.int8-bad.onnx")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    full = str(target / "debug/inferdiff")
    args = ("serve", "--model", model, "--model-name", "digits", "--listen", "127.0.0.1:0")
    return programs.start(*args, program=full)[1]


def record(programs: Programs, upstream: str, capture: Path, *more: str):
    """A recorder before `upstream`."""
    url = f"http://{upstream}"
    args = ("record", "--listen", "127.0.0.1:0", "--upstream", url, "--capture", str(capture))
    return programs.start(*args, *more)


def traffic(address: str, *more: str) -> int:
    """Sends digits with tritonclient; returns how many were answered."""
    command = [sys.executable, str(ROOT / "scripts/traffic.py"), address, *more]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_recorded_tensors_are_those_sent_and_footers_are_as_promised(programs, tmp_path) -> None:
    capture = tmp_path / "capture"
    recorder, address = record(programs, serve(programs), capture)
    sent = traffic(address, "--limit", "200")
    programs.stop(recorder)
    images = np.load(FIXTURE / "heldout.npz")["images"]
    recorded = rows(capture)
    assert len(recorded) == sent == 200
    for row in recorded:
        index = int(row["client_request_id"].removeprefix("digit-"))
        (tensor,) = row["inputs"]
        assert tensor["data"] == images[index].tobytes()
        assert row["outputs"][0]["shape"] == [1, 10]
        assert row["protocol"] == ("oip-rest-binary" if index % 2 else "oip-rest")
    checked = set()
    for path in capture.glob("*.parquet"):
        assert path.read_bytes().startswith(b"PAR1"), path
        by_halves(path)
        footer = pq.ParquetFile(path).metadata
        for column in (footer.row_group(0).column(i) for i in range(footer.num_columns)):
            if column.path_in_schema in PAYLOADS:
                checked.add(column.path_in_schema)
                assert not column.has_dictionary_page, column.path_in_schema
                assert not column.is_stats_set, column.path_in_schema
    assert checked == set(PAYLOADS)
    report = subprocess.run(
        [binary(), "captures", "verify", "--json", str(capture)], capture_output=True, text=True
    )
    assert report.returncode == 0, report.stdout
    assert json.loads(report.stdout)["recorders"][0]["ledger"]["recorded"] == sent


def test_a_growing_segment_is_read_at_ten_checkpoints(programs, tmp_path) -> None:
    capture = tmp_path / "capture"
    recorder, address = record(programs, serve(programs), capture, "--flush-age", "50")
    sender = threading.Thread(target=traffic, args=(address, "--repeat", "4"))
    sender.start()
    seen: list[int] = []
    deadline = time.monotonic() + 60
    while len(seen) < 10 and time.monotonic() < deadline:
        for growing in capture.glob("_*.parquet.open"):
            copy = tmp_path / "copy.parquet"
            try:
                shutil.copy(growing, copy)
            except FileNotFoundError:
                continue  # sealed in between
            if not copy.read_bytes().endswith(b"PAR1") or copy.stat().st_size < 100:
                continue  # caught in the middle of a write: not a checkpoint
            count = pq.read_table(copy).num_rows
            counted = duckdb.sql(f"select count(*), count(inputs) from '{copy}'").fetchone()
            assert counted == (count, count)
            if count not in seen:
                seen.append(count)
        time.sleep(0.01)
    sender.join()
    programs.stop(recorder)
    print(f"read at checkpoints of {seen} rows")
    assert len(seen) >= 10, seen
    query = f"select count(*) from '{capture}/*.parquet'"
    assert duckdb.sql(query).fetchone()[0] == pq.read_table(capture).num_rows == 4 * 898


@pytest.mark.skipif("INFERDIFF_RECORDER" not in os.environ, reason="run by scripts/test")
def test_a_recorder_without_a_runtime_records_the_same_traffic(
    programs, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("INFERDIFF", os.environ["INFERDIFF_RECORDER"])
    capture = tmp_path / "capture"
    recorder, address = record(programs, serve(programs), capture)
    sent = traffic(address)
    programs.stop(recorder)
    assert pq.read_table(capture).num_rows == sent == 898
