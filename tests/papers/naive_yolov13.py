"""YOLOv13 (Lei et al., 2025) as plain functions of a state dict, without classes of the library."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def norm(sd, p, x):
    mean, var, weight, bias = (sd[f"{p}.{n}"][:, None, None] for n in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / (var + 1e-3).sqrt() * weight + bias


def silu(x):
    return x / (1 + torch.exp(-x))


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def convolve(sd, p, x, stride=1):
    w = sd[f"{p}.weight"]
    return F.conv2d(x, w, sd.get(f"{p}.bias"), stride, w.shape[-1] // 2, 1, x.shape[1] // w.shape[1])


def conv(sd, p, x, stride=1, act=True):
    x = norm(sd, f"{p}.bn", convolve(sd, f"{p}.conv", x, stride))
    return silu(x) if act else x


def dsconv(sd, p, x, stride=1):
    return silu(norm(sd, f"{p}.bn", convolve(sd, f"{p}.pw", convolve(sd, f"{p}.dw", x, stride))))


def count(sd, p):
    """The number of entries of a list of modules."""
    return len({k[len(p) + 1 :].split(".")[0] for k in sd if k.startswith(p + ".")})


def bottleneck(sd, p, x):
    return x + dsconv(sd, f"{p}.cv2", dsconv(sd, f"{p}.cv1", x))


def dsc3k(sd, p, x):
    y = conv(sd, f"{p}.cv1", x)
    for i in range(count(sd, f"{p}.m")):
        y = bottleneck(sd, f"{p}.m.{i}", y)
    return conv(sd, f"{p}.cv3", torch.cat([y, conv(sd, f"{p}.cv2", x)], 1))


def dsc3k2(sd, p, x):
    y = conv(sd, f"{p}.cv1", x)
    outputs = [y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :]]
    for i in range(count(sd, f"{p}.m")):
        block = dsc3k if f"{p}.m.{i}.cv3.conv.weight" in sd else bottleneck
        outputs.append(block(sd, f"{p}.m.{i}", outputs[-1]))
    return conv(sd, f"{p}.cv2", torch.cat(outputs, 1))


def area_attention(sd, p, x, area, head=32):
    b, c, h, w = x.shape
    qk, v = conv(sd, f"{p}.qk", x, act=False), conv(sd, f"{p}.v", x, act=False)
    q, k, values = qk[:, :c].reshape(b, c, -1), qk[:, c:].reshape(b, c, -1), v.reshape(b, c, -1)
    band = torch.arange(h * w) // (h * w // area)
    out = torch.zeros_like(values)
    for start in range(0, c, head):
        part = slice(start, start + head)
        s = torch.einsum("bdn,bdm->bnm", q[:, part], k[:, part]) / math.sqrt(head)
        s = torch.where(band[:, None] == band[None], s, -math.inf)
        prob = torch.exp(s - s.amax(-1, keepdim=True))
        prob = prob / prob.sum(-1, keepdim=True)
        out[:, part] = torch.einsum("bnm,bdm->bdn", prob, values[:, part])
    return conv(sd, f"{p}.proj", out.reshape(b, c, h, w) + conv(sd, f"{p}.pe", v, act=False), act=False)


def area_block(sd, p, x, area):
    x = x + area_attention(sd, f"{p}.attn", x, area)
    return x + conv(sd, f"{p}.mlp.1", conv(sd, f"{p}.mlp.0", x), act=False)


def a2c2f(sd, p, x, area):
    outputs = [conv(sd, f"{p}.cv1", x)]
    for i in range(count(sd, f"{p}.m")):
        outputs.append(area_block(sd, f"{p}.m.{i}.1", area_block(sd, f"{p}.m.{i}.0", outputs[-1], area), area))
    y = conv(sd, f"{p}.cv2", torch.cat(outputs, 1))
    return x + sd[f"{p}.gamma"][:, None, None] * y if f"{p}.gamma" in sd else y


def linear(sd, p, x):
    return torch.einsum("...i,oi->...o", x, sd[f"{p}.weight"]) + sd[f"{p}.bias"]


def adahg(sd, p, x):
    """Eq. 1 and 2 on [B, N, D], head by head."""
    gen, d = f"{p}.edge_generator", 16
    context = torch.cat([x.mean(1), x.max(1).values], -1)
    base = sd[f"{gen}.prototype_base"]
    prototypes = base + linear(sd, f"{gen}.context_net", context).reshape(x.shape[0], *base.shape)
    z, heads = linear(sd, f"{gen}.pre_head_proj", x), x.shape[-1] // d
    s = 0
    for i in range(heads):
        s = s + torch.einsum("bnd,bmd->bnm", z[..., i * d : i * d + d], prototypes[..., i * d : i * d + d]) / 4
    a = torch.exp(s / heads - (s / heads).amax(1, keepdim=True))
    a = a / a.sum(1, keepdim=True)
    y = gelu(linear(sd, f"{p}.edge_proj.0", torch.einsum("bnm,bnd->bmd", a, x)))
    return x + gelu(linear(sd, f"{p}.node_proj.0", torch.einsum("bnm,bmd->bnd", a, y)))


def c3ah(sd, p, x):
    y = conv(sd, f"{p}.cv1", x)
    tokens = adahg(sd, f"{p}.m.hgnn", y.permute(0, 2, 3, 1).flatten(1, 2))
    y = tokens.reshape(y.shape[0], *y.shape[2:], -1).permute(0, 3, 1, 2)
    return conv(sd, f"{p}.cv3", torch.cat([y, conv(sd, f"{p}.cv2", x)], 1))


def pooled(x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def doubled(x):
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def hyperace(sd, p, p3, p4, p5):
    x = conv(sd, f"{p}.fuse.conv_out", torch.cat([pooled(p3), p4, doubled(p5)], 1))
    y = conv(sd, f"{p}.cv1", x)
    c = y.shape[1] // 3
    y0, y1, z = y[:, :c], y[:, c : 2 * c], [y[:, 2 * c :]]
    o1, o2 = c3ah(sd, f"{p}.branch1", y1), c3ah(sd, f"{p}.branch2", y1)
    for i in range(count(sd, f"{p}.m")):
        z.append(dsc3k(sd, f"{p}.m.{i}", z[-1]))
    return conv(sd, f"{p}.cv2", torch.cat([y0, o1, *z, o2], 1))


def tunnel(sd, p, x, h):
    return x + sd[f"{p}.gate"] * h


def down(sd, p, x):
    x = pooled(x)
    return conv(sd, f"{p}.channel_adjust", x) if f"{p}.channel_adjust.conv.weight" in sd else x


def detect(sd, p, maps, strides=(8, 16, 32)):
    boxes, scores = [], []
    for i, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        box = convolve(sd, f"{p}.cv2.{i}.2", conv(sd, f"{p}.cv2.{i}.1", conv(sd, f"{p}.cv2.{i}.0", x)))
        cls = x
        for a in range(2):
            for b in range(2):
                cls = conv(sd, f"{p}.cv3.{i}.{a}.{b}", cls)
        cls = convolve(sd, f"{p}.cv3.{i}.2", cls)
        scores.append((1 / (1 + torch.exp(-cls))).flatten(2).transpose(1, 2))
        weight = sd[f"{p}.dfl.conv.weight"].flatten()
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                bins = box[:, :, row, column].reshape(-1, 4, 16).softmax(-1)
                left, top, right, bottom = (bins * weight).sum(-1).unbind(-1)
                at = (column + 0.5, row + 0.5)
                corners = (at[0] - left, at[1] - top, at[0] + right, at[1] + bottom)
                boxes.append(stride * torch.stack(corners, -1))
    return torch.stack(boxes, 1), torch.cat(scores, 1)


def network(sd, image):
    """The layer table, line by line: (boxes, scores) and every layer's output."""
    y = {}
    y[0] = conv(sd, "model.0", image, 2)
    y[1] = conv(sd, "model.1", y[0], 2)
    y[2] = dsc3k2(sd, "model.2", y[1])
    y[3] = conv(sd, "model.3", y[2], 2)
    y[4] = dsc3k2(sd, "model.4", y[3])
    y[5] = dsconv(sd, "model.5", y[4], 2)
    y[6] = a2c2f(sd, "model.6", y[5], 4)
    y[7] = dsconv(sd, "model.7", y[6], 2)
    y[8] = a2c2f(sd, "model.8", y[7], 1)
    y[9] = hyperace(sd, "model.9", y[4], y[6], y[8])
    y[10] = doubled(y[9])
    y[11] = down(sd, "model.11", y[9])
    y[12] = tunnel(sd, "model.12", y[6], y[9])
    y[13] = tunnel(sd, "model.13", y[4], y[10])
    y[14] = tunnel(sd, "model.14", y[8], y[11])
    y[15] = doubled(y[14])
    y[16] = torch.cat([y[15], y[12]], 1)
    y[17] = dsc3k2(sd, "model.17", y[16])
    y[18] = tunnel(sd, "model.18", y[17], y[9])
    y[19] = doubled(y[17])
    y[20] = torch.cat([y[19], y[13]], 1)
    y[21] = dsc3k2(sd, "model.21", y[20])
    y[22] = conv(sd, "model.22", y[10])
    y[23] = tunnel(sd, "model.23", y[21], y[22])
    y[24] = conv(sd, "model.24", y[23], 2)
    y[25] = torch.cat([y[24], y[18]], 1)
    y[26] = dsc3k2(sd, "model.26", y[25])
    y[27] = tunnel(sd, "model.27", y[26], y[9])
    y[28] = conv(sd, "model.28", y[26], 2)
    y[29] = torch.cat([y[28], y[14]], 1)
    y[30] = dsc3k2(sd, "model.30", y[29])
    y[31] = tunnel(sd, "model.31", y[30], y[11])
    return detect(sd, "model.32", [y[23], y[27], y[31]]), y
