"""pyarrow opens an encrypted capture with the key, and not without."""

import base64
import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from conftest import Programs, binary
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from test_readers import record, serve, traffic


class LocalKey(pe.KmsClient):
    """Unwraps the files' keys with the capture's: nonce, ciphertext and tag, the key's name as
    additional data, as parquet-java's LocalWrapKmsClient does."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self.cipher = AESGCM(key)

    def wrap_key(self, key: bytes, name: str) -> bytes:
        """Not used in reading."""
        raise NotImplementedError

    def unwrap_key(self, wrapped: str, name: str) -> bytes:
        """The key of one file."""
        both = base64.b64decode(wrapped)
        return self.cipher.decrypt(both[:12], both[12:], name.encode())


def read(path: Path, key: bytes):
    """A segment as a table."""
    factory = pe.CryptoFactory(lambda _config: LocalKey(key))
    configuration = pe.DecryptionConfiguration(cache_lifetime=timedelta(minutes=1))
    properties = factory.file_decryption_properties(pe.KmsConnectionConfig(), configuration)
    return pq.ParquetFile(path, decryption_properties=properties).read()


def captures(command: str, capture: Path, *more: str) -> subprocess.CompletedProcess:
    """`inferdiff captures COMMAND`."""
    call = [binary(), "captures", command, str(capture), *more]
    return subprocess.run(call, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [16, 32])
def test_pyarrow_reads_what_the_key_opens(programs: Programs, tmp_path: Path, size: int) -> None:
    """Recorded by the real recorder, before and after merging."""
    key, capture, file = os.urandom(size), tmp_path / "capture", tmp_path / "key"
    file.write_bytes(key)
    file.chmod(0o600)
    flags = ("--encryption-key", str(file), "--flush-age", "50", "--no-merge")
    recorder, address = record(programs, serve(programs), capture, *flags)
    sent = traffic(address, "--limit", "300")
    programs.stop(recorder)
    verified = captures("verify", capture, "--json", "--encryption-key", str(file))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["exchanges"] == sent
    shown = captures("show", capture, "--json", "--limit", "1000", "--encryption-key", str(file))
    ids = sorted(row["client_request_id"] for row in json.loads(shown.stdout))
    for merged in (False, True):
        if merged:
            assert captures("merge", capture, "--encryption-key", str(file)).returncode == 0
        segments = sorted(capture.glob("*.parquet"))
        assert (len(segments) == 1) == merged, segments
        tables = [read(path, key) for path in segments]
        found = [i for t in tables for i in t.column("client_request_id").to_pylist()]
        assert sorted(found) == ids and len(ids) == sent
        inputs = [row[0] for t in tables for row in t.column("inputs").to_pylist()]
        assert all(i["name"] == "image" and len(i["data"]) == 64 * 4 for i in inputs)
        for path in segments:
            with pytest.raises(OSError, match="decryption|encrypted"):
                pq.read_table(path)
            assert b"digit-" not in path.read_bytes()
    file.write_bytes(os.urandom(size))
    wrong = captures("verify", capture, "--encryption-key", str(file))
    assert wrong.returncode == 2 and "is encrypted with key" in wrong.stderr, wrong.stderr
    none = captures("ls", capture)
    assert none.returncode == 2 and "--encryption-key" in none.stderr, none.stderr
    file.chmod(0o644)
    shared = captures("ls", capture, "--encryption-key", str(file))
    assert shared.returncode == 2 and "chmod 600" in shared.stderr, shared.stderr
