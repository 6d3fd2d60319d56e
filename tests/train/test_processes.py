"""Training in two processes gives the result of one process, in the same epoch, and writes files once."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from hgraph.train import fit, seeded

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore"),  # of lightning, about the machine
]


def network(dropout=0.0):
    with seeded(0):
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))


def train(model, rows=slice(None), stop_at=None, **options):
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] + x[:, 1] > 0).long()[rows]
    seen = 0

    def validate(z):
        nonlocal seen
        seen += 1
        if seen == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return -float(F.cross_entropy(z, y))

    options = {"epochs": 12, "clip": 0.5, "seed": 3, "save_every": 4, **options}
    return fit(model, (x[rows],), lambda z: F.cross_entropy(z, y), validate=validate, **options)


def in_two_processes(folder, part=slice(None), dropout=0.0, stop_at=None):
    """Train over gloo; returns the final state of each process."""
    fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
    folder.mkdir(exist_ok=True)

    def work(fabric):
        torch.set_num_threads(1)
        assert (torch.distributed.get_backend(), fabric.world_size) == ("gloo", 2)
        rows = part if part != "half" else slice(fabric.global_rank, None, 2)
        if part == "unequal":
            rows = slice(0, 20) if fabric.global_rank else slice(20, 60)
        model = network(dropout)
        files = {"checkpoint": folder / "c", "log": folder / "log.jsonl"}
        result = train(model, rows, stop_at, fabric=fabric, **files)
        history = torch.tensor([[r["loss"], r["validation"]] for r in result.history])
        save_file({"history": history, **model.state_dict()}, folder / f"{fabric.global_rank}.safetensors")

    fabric.launch(work)
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


def equal(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("part", [slice(None), "half"], ids=["the same rows", "half of the rows"])
def test_two_processes_train_as_one(tmp_path, part):
    """The same rows in both give the bits of one process; half of the rows in each, the mean of both halves."""
    first, second = in_two_processes(tmp_path, part)
    assert equal(first, second)
    single = network()
    result = train(single)
    expected = torch.tensor([[r["loss"], r["validation"]] for r in result.history])
    torch.testing.assert_close(first["history"], expected, rtol=1e-5, atol=1e-6)
    for name, value in single.state_dict().items():
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)
        assert part == "half" or torch.equal(first[name], value)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 12


def test_two_processes_resume_to_the_same_bits(tmp_path):
    """With unequal parts, so that the processes' random states differ."""
    expected = in_two_processes(tmp_path / "whole", "unequal", dropout=0.5)
    with pytest.raises(Exception, match="SIGKILL"):
        in_two_processes(tmp_path / "killed", "unequal", dropout=0.5, stop_at=7)
    assert (tmp_path / "killed" / "c").exists()
    found = in_two_processes(tmp_path / "killed", "unequal", dropout=0.5)
    assert all(equal(a, b) for a, b in zip(expected, found, strict=True))
