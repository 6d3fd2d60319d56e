"""Soft hyperedges vs. full attention over 256 to 65,536 tokens, and YOLOv13-N on one image.

SoftHGNN has 256 channels, 16 hyperedges and 8 heads; HyperACE is that of YOLOv13-N, on a map with as many pixels on
its middle grid. SDPA is only the product of queries, keys and values, 8 heads of 32, without the linear maps of an
attention layer. They compute different things: only time and memory are compared. "f+b" includes the
backward to the tokens and weights of the layer, and to q, k and v of SDPA.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from hgraph.benchmarks import peak
from hgraph.benchmarks.harness import Case, Found, Method, gradient, without_gradient
from hgraph.models import YOLOv13
from hgraph.nn import HyperACE, SoftHGNN

TOKENS = (256, 1024, 4096, 16384, 65536)
SDPA, ACE = "SDPA, 8 heads of 32", "HyperACE of YOLOv13-N"


def calls(tokens: int, device: str) -> dict[str, Callable[[], Method]]:
    """Factories of the calls, so that a process can build only one."""
    side = int(tokens**0.5)

    def soft() -> Method:
        layer, x = SoftHGNN(256, 16, 8).eval().to(device), torch.randn(1, tokens, 256, device=device)
        return without_gradient(partial(layer, x))

    def ace() -> Method:
        layer = HyperACE((128, 128, 256), 128, num_hyperedges=4).eval().to(device)
        sides = ((128, 2 * side), (128, side), (256, side // 2))
        maps = [torch.randn(1, c, n, n, device=device) for c, n in sides]
        return without_gradient(lambda: layer(*maps))

    def attention() -> Method:
        q, k, v = (torch.randn(1, 8, tokens, 32, device=device) for _ in range(3))
        return without_gradient(lambda: F.scaled_dot_product_attention(q, k, v))

    return {"hgraph": soft, ACE: ace, SDPA: attention}


def timed(tokens: int, name: str, device: str) -> Case:
    made = {n: make() for n, make in calls(tokens, device).items()}
    return Case(name, {"hgraph": made.pop("hgraph")}, made)


def trained(tokens: int, name: str, device: str) -> Case:
    """Forward and backward, to the inputs."""
    layer = SoftHGNN(256, 16, 8, dropout=0.0).to(device)
    x = torch.randn(1, tokens, 256, device=device, requires_grad=True)
    heads = [torch.randn(1, 8, tokens, 32, device=device, requires_grad=True) for _ in range(3)]
    ours = gradient(lambda: layer(x), [x, *layer.parameters()], torch.ones_like(x))
    other = gradient(lambda: F.scaled_dot_product_attention(*heads), heads, torch.ones_like(heads[0]))
    return Case(name, {"hgraph": ours}, {SDPA: other})


def call(tokens: int, name: str, device: str) -> Method:
    calls(256, device)[name]()()  # libraries set up
    return calls(tokens, device)[name]()


def peaks(tokens: int, device: str) -> Found:
    values = {name: [peak.peak_mib(partial(call, tokens, name, device))] for name in calls(256, device)}
    return Found(values, "MiB above the inputs")


def detector(name: str, batch: int, dtype: torch.dtype, device: str) -> Case:
    """Images of 640 x 640 through YOLOv13-N."""
    torch.manual_seed(0)
    net, image = YOLOv13("n").eval().to(device, dtype), torch.rand(batch, 3, 640, 640).to(device, dtype)
    last = YOLOv13("n").eval().to(device, dtype)
    last.load_state_dict(net.state_dict())
    last, image_last = last.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)
    methods: dict[str, Callable[[], torch.Tensor]] = {
        "hgraph": lambda: net(image).boxes,
        "hgraph, channels last": lambda: last(image_last).boxes,
    }
    if shutil.which("g++"):
        compiled = torch.compile(net)
        methods["hgraph, compiled"] = lambda: compiled(image).boxes
    if device == "cuda":
        graphed = torch.compile(last, mode="max-autotune")  # with CUDA graphs
        methods["hgraph, channels last, compiled, CUDA graphs"] = lambda: graphed(image_last).boxes
    rtol = 1e-3 if dtype == torch.float32 else 2e-2
    return Case(name, {n: without_gradient(c) for n, c in methods.items()}, rtol=rtol)


def suite(device: str) -> Mapping[str, Callable[[], Case | Found]]:
    made: dict[str, Callable[[], Case | Found]] = {}
    for tokens in TOKENS:
        made[f"{tokens} tokens"] = partial(timed, tokens, f"{tokens} tokens", device)
        if tokens <= 16384 or device == "cuda":  # for more tokens, SDPA alone takes minutes on a CPU
            made[f"{tokens} tokens, f+b"] = partial(trained, tokens, f"{tokens} tokens, f+b", device)
        made[f"{tokens} tokens, peak memory"] = partial(peaks, tokens, device)
    made["YOLOv13-N, 640 px"] = partial(detector, "YOLOv13-N, 640 px", 1, torch.float32, device)
    if device == "cuda":
        for batch in (1, 32):
            name = f"YOLOv13-N, 640 px, {batch} in float16"
            made[name] = partial(detector, name, batch, torch.float16, device)
    return made
