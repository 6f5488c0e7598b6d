#!/usr/bin/env python3
"""Sends held-out digits through an Open Inference Protocol endpoint with tritonclient.

Every other request is JSON, the rest carry binary tensors. Prints how many were answered.
"""

import argparse
from pathlib import Path

import numpy as np
import tritonclient.http as triton

FIXTURE = Path(__file__).resolve().parent.parent / "tests/fixtures/digits/heldout.npz"


def request(image: np.ndarray, binary: bool) -> tuple[list, list]:
    """Inputs and requested outputs for one image [1, 1, 8, 8]."""
    tensor = triton.InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image, binary_data=binary)
    return [tensor], [triton.InferRequestedOutput("logits", binary_data=binary)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="host:port")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--limit", type=int, help="at most this many images")
    parser.add_argument("--repeat", type=int, default=1, help="send all of them this many times")
    options = parser.parse_args()
    images = np.load(FIXTURE)["images"][: options.limit]
    client = triton.InferenceServerClient(options.address)
    answered = 0
    for round_ in range(options.repeat):
        for i, image in enumerate(images):
            inputs, outputs = request(image[None], binary=i % 2 == 1)
            key = f"digit-{i:04}" if round_ == 0 else f"digit-{i:04}-{round_}"
            answer = client.infer(options.model, inputs, outputs=outputs, request_id=key)
            assert answer.as_numpy("logits").shape == (1, 10)
            answered += 1
    print(answered)


if __name__ == "__main__":
    main()
