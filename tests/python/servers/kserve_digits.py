"""The digits network behind KServe's Python server: V1, V2 REST and gRPC.

python kserve_digits.py MODEL.onnx HTTP_PORT GRPC_PORT
"""

import sys

import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Digits(Model):
    """`image` FP32 [n,1,8,8] in, `logits` FP32 [n,10] out."""

    def __init__(self, path: str) -> None:
        super().__init__("digits")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        """V2 for requests that came as such, else V1."""
        if isinstance(payload, InferRequest):
            image = payload.inputs[0].as_numpy().reshape(-1, 1, 8, 8).astype(np.float32)
            logits = self.session.run(None, {"image": image})[0]
            output = InferOutput(name="logits", shape=list(logits.shape), datatype="FP32")
            output.set_data_from_numpy(logits, binary_data=bool(payload.use_binary_outputs))
            return InferResponse(response_id=payload.id or "0", model_name=self.name, infer_outputs=[output])
        image = np.array([row["image"] for row in payload["instances"]], np.float32)
        logits = self.session.run(None, {"image": image.reshape(-1, 1, 8, 8)})[0]
        return {"predictions": logits.tolist()}


if __name__ == "__main__":
    model, http_port, grpc_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.argv = sys.argv[:1]
    ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1, enable_grpc=True).start([Digits(model)])
