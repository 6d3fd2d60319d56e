"""Latency of one prediction of the exported student: eager torch, ONNX Runtime, ONNX Runtime with 8-bit weights.

    python benchmarks/studies/student_one.py

The student of LightHGNN (Feng et al., ICLR 2024), width 128, with folded normalization, at the sizes of its synthetic
sets (300 features, 10 classes) and of Cora (1,433, 7). One thread; the median and the minimum of 20,000 calls in turn,
process CPU time. Target: at most 0.05 ms in eager torch and 0.02 ms in ONNX Runtime.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from hgraph.benchmarks import records
from hgraph.distill import Predictor, export
from hgraph.models import MLP

SIZES = {"synthetic": (300, 10), "Cora": (1433, 7)}
CALLS = 20_000


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed(call: Callable[[], object]) -> list[float]:
    for _ in range(500):
        call()
    times = []
    for _ in range(CALLS):
        start = time.process_time_ns()
        call()
        times.append((time.process_time_ns() - start) / 1e6)
    return times


@torch.inference_mode()
def measure(case: str, features: int, classes: int, folder: Path) -> dict[str, str]:
    student = MLP(features, 128, classes).eval()
    x = torch.rand(64, features)
    with torch.inference_mode(False):
        export(student, folder, x, formats=("layers", "onnx", "int8"))
    folded, row, plain = student.folded(), x[:1], x[:1].numpy()
    whole, small = session(folder / "student.onnx"), session(folder / "student.int8.onnx")
    predictor = Predictor(folder)
    ways: dict[str, Callable[[], object]] = {
        "eager": lambda: folded(row),
        "predictor": lambda: predictor.logits(row),
        "onnx": lambda: whole.run(None, {"x": plain}),
        "int8": lambda: small.run(None, {"x": plain}),
    }
    line = {"case": case, "features": str(features), "classes": str(classes)}
    for way, call in ways.items():
        times = timed(call)
        line |= {f"{way}_ms": f"{statistics.median(times):.4f}", f"{way}_min_ms": f"{min(times):.4f}"}
    print(", ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    return line | {"onnxruntime": onnxruntime.__version__}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        rows = [measure(case, *sizes, Path(place) / case) for case, sizes in SIZES.items()]
    records.write_csv("student_one.csv", [row | records.machine() for row in rows])


if __name__ == "__main__":
    main()
