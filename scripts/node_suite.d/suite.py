"""The ONNX node suite through `inferdiff record` and `inferdiff replay`, case by case.

Every case becomes recorded traffic whose answers are those that the suite expects, and is replayed down
three stages beside production: everything off (the reference), everything on, and the model with one
weight or attribute changed. The first two and production must agree; the last must be found.
"""

import argparse
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import cases
import change
import engine
import onnx
import onnxruntime
import traffic

LADDER = """
[[stage]]
name = "off"
runtime = "onnxruntime"
model = {model}
threads = 1
[[stage]]
name = "on"
inherits = "off"
graph_optimization = "all"
prepacking = true
memory_optimization = true
"""
CHANGED = """
[[stage]]
name = "changed"
inherits = "off"
model = {model}
"""
HARMLESS = ("identical", "equivalent")
# Cases recorded and replayed by one process at a time.
GROUP = 20


@dataclass
class Result:
    """What came of a case."""

    name: str
    # Refused: the engine does not open the model, in its own words.
    refused: str | None = None
    on: str = ""
    recorded: str = ""
    changed: str = ""
    what: str = ""
    changes_bits: bool = False
    # By numpy: the suite's outputs are within tolerance of the engine's. None: it cannot say.
    agrees: bool | None = None
    # What a finding rests on.
    worst: str = ""
    missed: str = ""


def replay(program: Path, case: cases.Case, folder: Path, capture: Path) -> Result:
    """One case down its ladder."""
    result = Result(case.name)
    ladder = LADDER.format(model=json.dumps(str(case.model)))
    for output in case.outputs:
        rtol, atol = engine.TOLERANCES.get(output.datatype, (0.0, 0.0))
        ladder += f"[tolerance.{json.dumps(output.name)}]\nrtol = {rtol}\natol = {atol}\n"
    answers = engine.run(case.model.read_bytes(), case)
    result.agrees = None if answers is None else engine.agrees(answers, case)
    changed = None if answers is None else change.change(case, answers)
    if changed is not None:
        path = folder / f"{case.name}.onnx"
        path.write_bytes(changed.model)
        ladder += CHANGED.format(model=json.dumps(str(path)))
        result.what, result.changes_bits = changed.what, changed.changes_bits
    file = folder / f"{case.name}.toml"
    file.write_text(ladder)
    command = [program, "replay", capture, "--where", f"model={case.name}", "--ladder", file, "--json"]
    done = subprocess.run([*command, "--run", folder / case.name], capture_output=True, text=True, check=False)
    if not done.stdout:
        result.refused = done.stderr.strip().splitlines()[-1]
        return result
    stages = {s["name"]: s for s in json.loads(done.stdout)["stages"]}
    result.on, result.recorded = stages["on"]["verdict"], stages["recorded"]["verdict"]
    if "compared" not in stages["on"]["outcomes"]:
        result.refused = stages["on"]["named"][0]["why"]
        return result
    if changed:
        result.changed = stages["changed"]["verdict"]
        if result.changed in HARMLESS:
            result.missed = f"largest change {max(o['max_abs'] or 0 for o in stages['changed']['outputs']):.3g}"
    if result.recorded not in HARMLESS:
        numbers = [f"{o['name']}: max abs {o['max_abs']}, items beyond {o['items_beyond_tolerance']} of {o['items']}" for o in stages["recorded"]["outputs"]]
        words = [n["why"] for n in stages["recorded"]["named"]]
        result.worst = "; ".join(numbers + words)
    elif result.on not in HARMLESS:
        result.worst = stages["on"]["reason"]
    return result


def group(task: tuple[Path, list[str], Path]) -> list[Result]:
    """Some cases: recorded into one capture, replayed one after another."""
    program, names, keep = task
    loaded = [cases.load(n) for n in names]
    with tempfile.TemporaryDirectory(dir=keep) as folder:
        capture = traffic.record(program, loaded, Path(folder))
        return [replay(program, c, Path(folder), capture) for c in loaded]


def report(results: list[Result], foreign: Counter, every: int) -> bool:
    """Prints the table; true where everything is as it must be."""
    refused = [r for r in results if r.refused]
    judged = [r for r in results if not r.refused]
    print(f"\nonnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}; every {every}th case" if every > 1 else f"\nonnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}; every case")
    print(f"{len(results) + sum(foreign.values())} cases; {sum(foreign.values())} hold what a capture cannot carry:")
    print("  " + ", ".join(f"{n} {kind}" for kind, n in foreign.most_common()))
    print(f"{len(refused)} models that ONNX Runtime refuses:")
    words = Counter(reason(r.refused) for r in refused)
    for why, n in words.most_common():
        names = [r.name for r in refused if reason(r.refused) == why]
        print(f"  {n:4} {why} ({', '.join(names[:3])}{', …' if n > 3 else ''})")
    for stage in ("recorded", "on"):
        counts = Counter(getattr(r, stage) for r in judged)
        print(f"{stage}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    differs = [r for r in judged if r.recorded not in HARMLESS]
    confirmed = [r for r in differs if r.agrees is False]
    print(f"  {len(confirmed)} where numpy finds the same: ONNX Runtime's answers are not the suite's")
    for r in confirmed:
        print(f"    {r.name}: {r.recorded}: {r.worst}")
    odd = [r for r in differs if r not in confirmed] + [r for r in judged if r.on not in HARMLESS]
    odd += [r for r in judged if r.recorded in HARMLESS and r.agrees is False]
    print(f"  {len(odd)} where numpy does not")
    for r in odd:
        print(f"    {r.name}: recorded {r.recorded}, on {r.on}, numpy {r.agrees}: {r.worst}")
    changed = [r for r in judged if r.changed]
    acts = [r for r in changed if r.changes_bits]
    caught = [r for r in acts if r.changed not in HARMLESS and r.changed != "not_applied"]
    print(f"changed: {len(changed)} of {len(judged)}; in {len(changed) - len(acts)} the change changes no bit of any answer")
    by = Counter(r.changed for r in caught)
    print("  " + ", ".join(f"{n} {verdict}" for verdict, n in by.most_common()) + "; failed = of another shape")
    print(f"  caught {len(caught)} of the {len(acts)} that do ({100 * len(caught) / max(1, len(acts)):.1f} %)")
    for r in acts:
        if r not in caught:
            print(f"  missed {r.name}: {r.what}: {r.changed}, {r.missed}")
    false = [r for r in changed if not r.changes_bits and r.changed not in ("identical", "not_applied")]
    for r in false:
        print(f"  {r.name}: {r.what}: no bit changes, and it is {r.changed}")
    return not odd and not false


def reason(text: str) -> str:
    """The engine's words without what is different in every case."""
    text = re.sub(r"\S*/(onnx|onnxruntime_src)/\S*", "", text)
    for mark in ("Status Message: ", "Fatal error: ", "cannot open the model", "failed:"):
        if mark in text:
            text = text.split(mark, 1)[1]
    return " ".join(text.strip(" :").split())[:140]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="the inferdiff binary")
    parser.add_argument("--every", type=int, default=1, help="only every Nth case")
    parser.add_argument("--only", help="only cases whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the result of each case here")
    options = parser.parse_args()
    names = [n for n in cases.names() if not options.only or options.only in n][:: options.every]
    kinds = {n: cases.foreign(n) for n in names}
    foreign = Counter(k for k in kinds.values() if k)
    fit = [n for n in names if not kinds[n]]
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="node-suite-") as keep, multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        tasks = [(options.program.resolve(), fit[i : i + GROUP], Path(keep)) for i in range(0, len(fit), GROUP)]
        for done in pool.imap_unordered(group, tasks):
            results += done
            print(f"\r{len(results)} of {len(fit)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    results.sort(key=lambda r: r.name)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1))
    sys.exit(0 if report(results, foreign, options.every) else 1)


if __name__ == "__main__":
    main()
