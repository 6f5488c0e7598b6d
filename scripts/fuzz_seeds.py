"""Puts the golden bodies where the fuzz targets that read them look for seeds."""

import json
import struct
import sys
from pathlib import Path

TARGETS = {
    "oip-rest": "oip_json",
    "oip-rest-binary": "oip_binary",
    "oip-grpc": "oip_grpc",
    "oip-grpc-stream": "oip_grpc",
    "tfs-rest": "tfs",
    "paddle-serving": "paddle_serving",
    "paddle-pipeline": "paddle_pipeline",
    "triton-generate": "generate",
    "triton-generate-stream": "generate",
    "sse": "sse",
}


def main(golden: Path, corpus: Path) -> None:
    """Copies every body; `oip_binary` takes the header's length in front of it."""
    for case in golden.glob("*/*.json"):
        headers = json.loads(case.read_text())
        for side in ("request", "response"):
            body = case.with_suffix(f".{side}").read_bytes()
            of_side = headers[f"{side}_headers"]
            target = TARGETS[case.parent.name]
            if "content-encoding" in of_side:
                target = "content_coding"
            elif target == "oip_binary":
                length = int(of_side["inference-header-content-length"])
                body = struct.pack("<H", length) + body
            folder = corpus / target
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"golden-{case.parent.name}-{case.stem}-{side}").write_bytes(body)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
