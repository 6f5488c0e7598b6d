#!/usr/bin/env python3
"""Makes tests/fixtures/encoder: a transformer encoder of variable length, as each generation writes it.

    scripts/setup --paddle 3.3.1 2.6.2
    .venvs/paddle-3.3.1/bin/python scripts/make_encoder.py      # encoder.json
    .venvs/paddle-2.6.2/bin/python scripts/make_encoder.py      # encoder-old.pdmodel

The weights come from numpy's generator, so both hold the same network.
"""

import sys
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))

OUT = Path(__file__).resolve().parents[1] / "tests/fixtures/encoder"
VOCABULARY, WIDTH, HEADS, LAYERS, CLASSES = 64, 32, 4, 2, 5


class Layer(nn.Layer):
    """Self-attention and feed-forward, each behind a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x, mask):  # noqa: ANN001, ANN201 - paddle's own types are not annotated
        """x [N, L, WIDTH], mask [N, 1, 1, L] -> [N, L, WIDTH]."""
        y = self.norm1(x)
        query, key, value = self.heads(self.query(y)), self.heads(self.key(y)), self.heads(self.value(y))
        scores = paddle.matmul(query, key, transpose_y=True) * (WIDTH // HEADS) ** -0.5
        y = paddle.matmul(F.softmax(scores + mask, -1), value)
        y = paddle.transpose(y, [0, 2, 1, 3])
        x = x + self.out(paddle.flatten(y, 2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    @staticmethod
    def heads(x):  # noqa: ANN001, ANN205
        """[N, L, WIDTH] -> [N, HEADS, L, WIDTH / HEADS]."""
        return paddle.transpose(paddle.reshape(x, [0, 0, HEADS, WIDTH // HEADS]), [0, 2, 1, 3])


class Encoder(nn.Layer):
    """ids INT64 [N, L], mask FP32 [N, L] (0 or a large negative number) -> scores FP32 [N, CLASSES]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.LayerList([Layer() for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids, mask):  # noqa: ANN001, ANN201
        """ids, mask -> scores."""
        x, mask = self.embedding(ids), paddle.unsqueeze(mask, [1, 2])
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(paddle.mean(x, 1))


def main() -> None:
    """Writes the files of the generation that runs this."""
    net = Encoder()
    rng = np.random.default_rng(5)
    for name, parameter in sorted(net.named_parameters()):
        scale = 1.0 if "norm" in name and name.endswith("weight") else 0.3
        values = scale * rng.standard_normal(parameter.shape)
        parameter.set_value(values.astype("float32"))
    net.eval()
    OUT.mkdir(parents=True, exist_ok=True)
    spec = paddle.static.InputSpec
    inputs = [spec([None, None], "int64", "ids"), spec([None, None], "float32", "mask")]
    old = paddle.__version__.startswith("2.")
    prefix = OUT / ("encoder-old" if old else "encoder")
    paddle.jit.save(net, str(prefix), input_spec=inputs)
    if old:
        from fixtures.call_stacks import without_call_stacks

        without_call_stacks(prefix.with_suffix(".pdmodel"))
    # Nothing reads it.
    prefix.with_suffix(".pdiparams.info").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
