"""Every metric and statistic against an independent implementation: scikit-learn, SciPy or NumPy.

`replay/examples/score_rows.rs` scores rows with the product's own code; here the same rows are
scored by strangers. Where a stranger has no answer (constants, NaN) ours is a rule of
docs/verdicts.md, and the test says which.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scipy import optimize, stats
from scipy.spatial import distance
from sklearn import metrics as sk
from sklearn.neighbors import NearestNeighbors

EXACT = 1e-12
NAMES = {
    np.dtype(np.float64): "FP64",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float16): "FP16",
    np.dtype(np.int64): "INT64",
    np.dtype(np.uint8): "UINT8",
}


def ask(cases: list[dict]) -> list:
    """Our answers to JSON cases."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    text = "".join(json.dumps(case) + "\n" for case in cases)
    program = target / "debug/examples/score_rows"
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def ours(spec: str, reference: np.ndarray, stage, labels=None, weights=None) -> dict:
    """One metric of rows `reference[i]` and `stage[i]` (`None`: the stage gave no answer)."""
    case = {
        "spec": spec,
        "datatype": NAMES[reference.dtype],
        "shape": list(reference.shape[1:]),
        "reference": [row.tobytes().hex() for row in reference],
        "stage": [None if row is None else np.asarray(row).tobytes().hex() for row in stage],
        "labels": labels,
        "weights": weights,
    }
    return ask([case])[0]


def sides(answer: dict) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the reference and of the stage, item by item."""
    items = np.array(answer["items"], dtype=float)
    return items[:, 1], items[:, 2]


def close(found, wanted) -> None:
    np.testing.assert_allclose(found, wanted, rtol=EXACT, atol=EXACT)


def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of [items, elements]: random, tied, nearly equal, extreme, narrow."""
    random = np.random.default_rng(5)
    plain = random.standard_normal((60, 12))
    moved = plain + 0.3 * random.standard_normal(plain.shape)
    tied = random.integers(0, 4, (60, 12)).astype(np.float64)
    return {
        "random": (plain, moved),
        "equal": (plain, plain.copy()),
        "unrelated": (plain, random.standard_normal(plain.shape)),
        "ties": (tied, random.integers(0, 4, (60, 12)).astype(np.float64)),
        "two elements": (plain[:, :2].copy(), moved[:, :2].copy()),
        "huge": (plain * 1e150, moved * 1e150),
        "tiny": (plain * 1e-150, moved * 1e-150),
        "single precision": (plain.astype(np.float32), moved.astype(np.float32)),
        "half precision": (plain.astype(np.float16), moved.astype(np.float16)),
        "integers": (tied.astype(np.int64), np.roll(tied, 1, axis=0).astype(np.int64)),
        "bytes": (tied.astype(np.uint8), np.roll(tied, 3, axis=1).astype(np.uint8)),
        "negative zero": (np.array([[0.0, -0.0, 1.0]] * 3), np.array([[-0.0, 0.0, 1.0]] * 3)),
    }


DATA = data()
both = pytest.mark.parametrize(("r", "t"), DATA.values(), ids=DATA.keys())


def largest(rows: np.ndarray, k: int) -> np.ndarray:
    """0/1 of the k largest, ties to the lowest index."""
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :k]
    out = np.zeros(rows.shape, dtype=int)
    np.put_along_axis(out, order, 1, axis=1)
    return out


@both
@pytest.mark.parametrize("k", [1, 3, 50])
def test_topk_is_scikit_learns_jaccard_index_of_both_sets(r, t, k) -> None:
    wanted = [sk.jaccard_score(a, b) for a, b in zip(largest(r, k), largest(t, k), strict=True)]
    close(sides(ours(f"topk:k={k}", r, t))[1], wanted)


@both
@pytest.mark.parametrize("k", [1, 2])
def test_topk_with_labels_is_the_label_among_the_largest(r, t, k) -> None:
    labels = np.random.default_rng(1).integers(0, r.shape[1], len(r))
    found = sides(ours(f"topk:k={k}", r, t, labels.tolist()))
    for side, rows in zip(found, (r, t), strict=True):
        close(side, largest(rows, k)[np.arange(len(rows)), labels])
        untied = all(len(np.unique(row)) == len(row) for row in rows)
        if untied and rows.shape[1] > 2:
            wanted = sk.top_k_accuracy_score(labels, rows, k=k, labels=np.arange(rows.shape[1]))
            close(side.mean(), wanted)


@both
def test_tau_is_scipys(r, t) -> None:
    wanted = [stats.kendalltau(a, b).statistic for a, b in zip(r, t, strict=True)]
    # Where one side is constant SciPy has no answer: two constants agree, one shares nothing.
    constant = [float(len(set(a)) == 1 == len(set(b))) for a, b in zip(r, t, strict=True)]
    equal = [a.tobytes() == b.tobytes() for a, b in zip(r, t, strict=True)]
    wanted = np.where(np.isnan(wanted), constant, wanted)
    close(sides(ours("tau", r, t))[1], np.where(equal, 1.0, wanted))


@both
@pytest.mark.parametrize("k", [None, 1, 5])
def test_ndcg_is_scikit_learns(r, t, k) -> None:
    spec = "ndcg" if k is None else f"ndcg:k={k}"
    gains = r.astype(np.float64) - r.astype(np.float64).min(axis=1, keepdims=True)
    one = lambda g, s: sk.ndcg_score([g], [s], k=k)  # noqa: E731 - one line
    wanted = [one(g, s.astype(np.float64)) for g, s in zip(gains, t, strict=True)]
    same = [not g.any() or a.tobytes() == b.tobytes() for g, a, b in zip(gains, r, t, strict=True)]
    close(sides(ours(spec, r, t))[1], np.where(same, 1.0, wanted))
    labels = np.random.default_rng(2).integers(0, r.shape[1], len(r))
    hits = np.eye(r.shape[1])[labels]
    for side, rows in zip(sides(ours(spec, r, t, labels.tolist())), (r, t), strict=True):
        close(side, [one(h, s.astype(np.float64)) for h, s in zip(hits, rows, strict=True)])


@both
def test_thresholds_are_numpys(r, t) -> None:
    at = 0.25
    decide = lambda rows: rows.astype(np.float64) >= at  # noqa: E731 - one line
    close(sides(ours(f"threshold:at={at}", r, t))[1], (decide(r) == decide(t)).all(axis=1))
    close(sides(ours(f"threshold:at={at},index=1", r, t))[1], decide(r)[:, 1] == decide(t)[:, 1])
    labels = np.random.default_rng(3).integers(0, 2, len(r))
    answer = ours(f"threshold:at={at},index=0", r, t, labels.tolist())
    for side, rows in zip(sides(answer), (r, t), strict=True):
        close(side.mean(), sk.accuracy_score(labels, decide(rows)[:, 0]))


@both
def test_mae_is_scikit_learns(r, t) -> None:
    wide = [rows.astype(np.float64) for rows in (r, t)]
    wanted = sk.mean_absolute_error(wide[0].T, wide[1].T, multioutput="raw_values")
    np.testing.assert_allclose(sides(ours("mae", r, t))[1], wanted, rtol=EXACT)
    labels = (np.random.default_rng(4).standard_normal(len(r)) + 0.5).tolist()
    answer = ours("mae", r[:, :1].copy(), t[:, :1], labels)
    for side, rows in zip(sides(answer), wide, strict=True):
        np.testing.assert_allclose(side.mean(), sk.mean_absolute_error(labels, rows[:, 0]), rtol=EXACT)


@both
def test_cosine_is_scipys(r, t) -> None:
    # SciPy squares what it is given: it is asked of the same directions at a size that it can square.
    scaled = [x.astype(np.float64) / np.abs(x.astype(np.float64)).max(axis=1, keepdims=True) for x in (r, t)]
    wanted = [1 - distance.cosine(a, b) for a, b in zip(*scaled, strict=True)]
    close(sides(ours("cosine", r, t))[1], wanted)
    rows = sk.pairwise.cosine_similarity(*scaled).diagonal()
    close(sides(ours("cosine", r, t))[1], rows)


@both
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_is_scikit_learns(r, t, weighted) -> None:
    random = np.random.default_rng(6)
    labels = np.array([0, 1] * len(r))[: len(r)]
    weights = random.uniform(0.1, 9, len(r)) if weighted else np.ones(len(r))
    answer = ours("auc:index=1", r, t, labels.tolist(), weights.tolist())
    for found, rows in zip(answer["auc"], (r, t), strict=True):
        scores = rows[:, 1].astype(np.float64)
        close(found, sk.roc_auc_score(labels, scores, sample_weight=weights))


@pytest.mark.parametrize("name", ["random", "equal", "unrelated", "single precision"])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_recall_is_scikit_learns_neighbours(name, k) -> None:
    sizes = [rows.astype(np.float64) for rows in DATA[name]]
    few = min(k, len(sizes[0]) - 1)

    def neighbours(rows: np.ndarray) -> list[set]:
        found = NearestNeighbors(n_neighbors=few, metric="cosine", algorithm="brute").fit(rows)
        return [set(row) for row in found.kneighbors(return_distance=False)]

    pairs = zip(*map(neighbours, sizes), strict=True)
    wanted = [len(a & b) / few for a, b in pairs]
    close(sides(ours(f"recall:k={k}", *DATA[name]))[1], wanted)


def test_the_first_divergent_token_is_numpys() -> None:
    random = np.random.default_rng(7)
    r = random.integers(0, 3, (50, 9))
    t = np.where(random.uniform(size=r.shape) < 0.1, 9, r)
    differs = r != t
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), r.shape[1])
    close(sides(ours("prefix", r, t))[1], first / r.shape[1])


def test_degenerate_rows_follow_their_rules() -> None:
    nan, inf, one = np.full(3, np.nan), np.array([1.0, np.inf, -np.inf]), np.array([3.0, 2.0, 1.0])
    constant, zero = np.ones(3), np.zeros(3)
    r = np.array([one, one, nan, constant, constant, zero, inf, one])
    t = [nan, None, nan, one, constant, zero, inf, -one]
    expect = {
        # An answer that orders nothing has the least score of its metric, equal bits the best.
        "tau": [0, -1, 1, 0, 1, 1, 1, -1],
        "cosine": [0, -1, 1, 6 / np.sqrt(3 * 14), 1, 1, 1, -1],
        "topk:k=1": [1, 0, 1, 1, 1, 1, 1, 0],
        "ndcg": [0, 0, 1, 1, 1, 1, 1, sk.ndcg_score([[2, 1, 0]], [-one])],
        "threshold:at=0.5": [0, 0, 1, 1, 1, 1, 1, 0],
    }
    for spec, wanted in expect.items():
        close(sides(ours(spec, r, t))[1], wanted)
    # MAE has no worst value: what cannot be subtracted is counted and never averaged away.
    answer = ours("mae", r, t)
    assert answer["unscored"] == 2
    close([item[2] for item in answer["items"]], [0, 1, 0, 0, 0, 4])
    # Labels beyond the classes are wrong; one class only has no area.
    assert sides(ours("topk:k=1", r, t, [7] * 8))[0].sum() == 0
    assert ours("auc:index=0", r, t, [1] * 8)["auc"] == [None, None]
    assert "needs labels" in ours("auc", r, t)["error"]
    assert "no index 5" in ours("threshold:at=0,index=5", r, t)["error"]
    assert "8 of 8 items" in ours("prefix", r, t)["error"]


def test_bounds_of_a_share_are_scipys() -> None:
    cases = [(k, n, c) for n in (1, 20, 898, 100_000) for k in {0, 1, n // 3, n} for c in (0.9, 0.95, 0.995)]
    found = ask([{"statistic": "binomial", "k": k, "n": n, "confidence": c} for k, n, c in cases])
    for (k, n, c), (low, high) in zip(cases, found, strict=True):
        wanted = stats.binomtest(k, n).proportion_ci(2 * c - 1, "exact")
        # SciPy solves for its own bounds to about 1e-10: the quantile itself is exact.
        assert low == pytest.approx(stats.beta.ppf(1 - c, k, n - k + 1) if k else 0.0, abs=1e-12)
        assert high == pytest.approx(stats.beta.ppf(c, k + 1, n - k) if k < n else 1.0, abs=1e-12)
        assert low == pytest.approx(wanted.low, abs=1e-8) and high == pytest.approx(wanted.high, abs=1e-8)


def tango(b: int, c: int, n: int, confidence: float) -> tuple[float, float]:
    """The score interval from its definition: the likelihood is maximised, not solved in closed form."""

    def statistic(d: float) -> float:
        # p(b) = q, p(c) = q + d; both within the simplex.
        low, high = max(0.0, -d), (1 - d) / 2
        loss = lambda q: -sum(  # noqa: E731 - the log likelihood
            k * np.log(max(p, 1e-300)) for k, p in ((b, q), (c, q + d), (n - b - c, 1 - 2 * q - d)) if k
        )
        q = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
        return (c - b - n * d) / np.sqrt(n * (2 * q + d - d * d))

    z = stats.norm.ppf(0.5 + confidence / 2)
    middle = (c - b) / n
    return (
        optimize.brentq(lambda d: statistic(d) - z, -1 + 1e-9, middle - 1e-9),
        optimize.brentq(lambda d: statistic(d) + z, middle + 1e-9, 1 - 1e-9),
    )


def test_the_score_interval_is_the_one_of_the_maximised_likelihood() -> None:
    cases = [(9, 2, 50, 0.95), (1, 0, 44, 0.9), (0, 5, 300, 0.95), (20, 31, 1797, 0.99), (3, 3, 60, 0.9)]
    names = ("b", "c", "n", "confidence")
    found = ask([{"statistic": "tango", **dict(zip(names, case, strict=True))} for case in cases])
    for case, interval in zip(cases, found, strict=True):
        # The optimiser finds a maximum to about the root of the machine's precision.
        np.testing.assert_allclose(interval, tango(*case), atol=1e-6)


def test_corrections_are_scipys() -> None:
    random = np.random.default_rng(8)
    cases = [random.uniform(size=m) ** 4 for m in (1, 2, 7, 40) for _ in range(10)]
    for p in cases:
        step_up, step_down = ask([
            {"statistic": "benjamini_hochberg", "p": p.tolist(), "q": 0.05},
            {"statistic": "holm", "p": p.tolist(), "alpha": 0.05},
        ])
        assert step_up == (stats.false_discovery_control(p) <= 0.05).tolist()
        order = np.argsort(p)
        adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
        assert [step_down[i] for i in order] == (adjusted <= 0.05).tolist()
