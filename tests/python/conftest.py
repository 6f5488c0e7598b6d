"""Real programs on port 0 for the Python tests."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests/fixtures/digits"
PATIENCE = 20.0


def binary() -> str:
    """The program under test; `INFERDIFF` names another build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return os.environ.get("INFERDIFF", str(target / "debug/inferdiff"))


def rows(capture: Path) -> list[dict]:
    """All rows of a capture; Python's datetime cannot hold the nanoseconds of `arrived_at`."""
    return pq.read_table(capture).drop_columns("arrived_at").to_pylist()


class Programs:
    """Starts programs, knows where they listen, stops them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen] = []

    def start(self, *args: str, program: str | None = None) -> tuple[subprocess.Popen, str]:
        """Starts `inferdiff ARGS`; returns the process and the host:port it listens on."""
        log = self.folder / f"{args[0]}-{len(self.running)}.log"
        with log.open("w") as file:
            command = [program or binary(), *args]
            child = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
        self.running.append(child)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and child.poll() is None:
            found = re.search(r"(?:listening on|serving \S+ on) (\S+)", log.read_text())
            if found:
                return child, found[1]
            time.sleep(0.02)
        raise AssertionError(f"{args} does not listen: {log.read_text()}")

    @staticmethod
    def stop(child: subprocess.Popen) -> None:
        """SIGTERM, and an orderly end."""
        child.terminate()
        assert child.wait(PATIENCE) == 0

    def close(self) -> None:
        """Whatever still runs is killed."""
        for child in self.running:
            child.kill()
            child.wait()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Programs that end with the test."""
    started = Programs(tmp_path)
    yield started
    started.close()


def by_halves(path: Path) -> None:
    """Row groups are where parquet-java looks for them when several share a file.

    It gives a row group to who has the byte in its middle, counted from its first column
    (ParquetMetadataConverter.filterFileMetaDataByMidpoint).
    """
    footer = pq.read_metadata(path)
    before = 0
    for i in range(footer.num_row_groups):
        group = footer.row_group(i)
        columns = [group.column(j) for j in range(group.num_columns)]
        first = columns[0]
        start = min(o for o in (first.dictionary_page_offset, first.data_page_offset) if o)
        middle = start + sum(c.total_compressed_size for c in columns) // 2
        assert before <= start < middle < path.stat().st_size, (path, i)
        before = middle
