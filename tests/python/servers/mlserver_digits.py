"""The digits network as an MLServer runtime; the model's path stands in DIGITS."""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    """`image` FP32 [n,1,8,8] in, `logits` FP32 [n,10] out."""

    async def load(self) -> bool:
        """Opens the session."""
        path = os.environ["DIGITS"]
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One inference."""
        image = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        logits = self.session.run(None, {"image": image.reshape(-1, 1, 8, 8)})[0]
        outputs = [NumpyCodec.encode_output("logits", logits)]
        return InferenceResponse(model_name=self.name, model_version="1", id=payload.id, outputs=outputs)
