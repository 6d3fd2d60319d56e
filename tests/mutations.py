"""Faults put into a copy of the library, one at a time: each must turn a test red.

python tests/mutations.py            (all)
python tests/mutations.py hgnn       (those whose name holds the word)
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_RUN = "import hgraph, pytest, sys; assert hgraph.__file__.startswith(sys.argv[1]); sys.exit(pytest.main(sys.argv[2:]))"


@dataclass(frozen=True)
class Mutation:
    """One fault: a text that occurs once in a file, what stands there instead, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    needs: str = ""  # a package (or a C++ compiler) without which the tests skip


HGNN, HGNNP = "hgraph/nn/hypergraph/hgnn.py", "hgraph/nn/hypergraph/hgnnp.py"
GCN, GAT, STEPS = "hgraph/nn/graph/gcn.py", "hgraph/nn/graph/gat.py", "hgraph/nn/graph/_steps.py"
SMOOTHING = "hgraph/nn/graph/smoothing.py"
SAGE = "hgraph/nn/graph/sage.py"
ALGEBRA = "hgraph/structure/algebra.py"
LINEAR, SOFTMAX, OPS = "hgraph/ops/sparse/linear.py", "hgraph/ops/sparse/softmax.py", "tests/ops"
ATTENTION = "hgraph/ops/sparse/attention.py"
SOFT, SELECT, SOFT_TESTS = (
    "hgraph/nn/hypergraph/soft.py",
    "hgraph/nn/hypergraph/soft_select.py",
    "tests/papers/test_03_softhgnn.py",
)
VIT = "hgraph/models/vision/vit.py"
AREA, ACE, YOLO_TESTS = "hgraph/nn/vision/area.py", "hgraph/nn/vision/hyperace.py", "tests/papers/test_07_yolov13.py"
GROUPS, LANDMARK = "hgraph/ops/tiles/group_attend.py", "hgraph/nn/attention/landmark/layer.py"
RECALL, LANDMARK_TESTS = "hgraph/nn/attention/landmark/state.py", "tests/papers/test_35_landmark.py"
KMEANS, ROUTES, SLOTS = (
    "hgraph/nn/attention/kmeans.py",
    "hgraph/nn/attention/routing/routes.py",
    "hgraph/patterns/slots.py",
)
ROUTING, ROUTING_TESTS = "hgraph/nn/attention/routing/layer.py", "tests/papers/test_17_routing.py"
AXIAL, AXIAL_TESTS = "hgraph/models/vision/axial_transformer.py", "tests/papers/test_09_axial.py"
NATIVE, CXX = "hgraph/kernels/native.py", "a C++ compiler"
HYPER, GRAPH, STRUCTURE = "tests/nn/test_hypergraph.py", "tests/nn/test_graph.py", "tests/structure"

MUTATIONS = [
    Mutation(
        "fused attention reads rows that are not dense",
        "hgraph/ops/tiles/block_attend.py",
        "x if x.stride(-1) == 1 and x.stride(-2) >= x.shape[-1] else x.contiguous()",
        "x",
        "tests/ops/test_strides.py",
    ),
    Mutation(
        "tiles lose the order of tokens",
        "hgraph/structure/token_graph.py",
        "dataclasses.replace(tiled(*own, block_size), order=self.order)",
        "tiled(*own, block_size)",
        "tests/structure/test_block_adjacency.py",
    ),
    Mutation(
        "batch norm gets the gradient of one map channels last",
        "hgraph/nn/vision/blocks.py",
        "return grad.contiguous()",
        "return grad",
        "tests/nn/content",
    ),
    Mutation(
        "hgnn: hyperedge weights W dropped",
        HGNN,
        "weight = weight * hypergraph.hyperedge_weight[e2v.indices]",
        "pass",
        HYPER,
    ),
    Mutation("hgnn: node degree on one side only", HGNN, "v2e.weight * root[v2e.indices]", "v2e.weight", HYPER),
    Mutation(
        "hgnn: node and hyperedge degree swapped",
        HGNN,
        'hypergraph.v2e.normalize("row")',
        'hypergraph.v2e.normalize("col")',
        HYPER,
    ),
    Mutation(
        "hgnn: root of the degree forgotten",
        HGNN,
        "hypergraph.node_degree(), -0.5",
        "hypergraph.node_degree(), -1.0",
        HYPER,
    ),
    Mutation(
        "hgnn: bias dropped",
        "hgraph/nn/hypergraph/two_step.py",
        "out_channels, bias=bias",
        "out_channels, bias=False",
        "tests/nn",
    ),
    Mutation("hgnn+: degrees swapped", HGNNP, 'hypergraph).normalize("row")', 'hypergraph).normalize("col")', HYPER),
    Mutation("hgnn+: hyperedge degree dropped", HGNNP, 'hypergraph.v2e.normalize("row")', "hypergraph.v2e", HYPER),
    Mutation("hgnn+: W dropped", HGNNP, "weighted_e2v(hypergraph)", "hypergraph.e2v", HYPER),
    Mutation("gcn: loops dropped", SMOOTHING, "+ loop.to(x.dtype).unsqueeze(-1) * x", "", GRAPH),
    Mutation("gcn: degrees without loops", SMOOTHING, "else degree + missing", "else degree", GRAPH),
    Mutation("loops: not made edges", STEPS, "graph.adj.add_self_loops), None", "lambda: graph.adj), None", GRAPH),
    Mutation("loops: a bias added twice", STEPS, "out + bias if", "out + bias + bias if", GRAPH),
    Mutation(
        "loops: a result written over that a graph is kept of", STEPS, "if torch.is_grad_enabled()", "if 0", GRAPH
    ),
    Mutation(
        "loops: put before the sources that are smaller", ALGEBRA, "& (adj.indices > adj.target)", "& False", STRUCTURE
    ),
    Mutation(
        "gcn: in place of both degrees the source's twice",
        SMOOTHING,
        "scale[adj.target] *",
        "scale[adj.indices] *",
        GRAPH,
    ),
    Mutation(
        "gcn: bias dropped",
        GCN,
        "add_bias(self.linear(prepared), self.bias)",
        "self.linear(prepared)",
        GRAPH,
    ),
    Mutation(
        "hgnn: bias of wide layers dropped",
        "hgraph/nn/hypergraph/two_step.py",
        "y = torch.addcmul(y, steps.ones.to(y.dtype), self.linear.bias.to(y.dtype))",
        "pass",
        HYPER,
    ),
    Mutation(
        "gat: itself left out",
        GAT,
        "merge(result, self._attend_self(query, key, value, loops))",
        "result",
        GRAPH,
    ),
    Mutation(
        "gat: query and key swapped", GAT, "self._attend(adj, query, key,", "self._attend(adj, key, query,", GRAPH
    ),
    Mutation("gat: features of edges are not read", GAT, "F.leaky_relu(q + k + e,", "F.leaky_relu(q + k,", GRAPH),
    Mutation("gat: sources mapped as targets", GAT, "self.target_linear(x_target)", "self.linear(x_target)", GRAPH),
    Mutation("sage: the node itself left out", SAGE, "self.target_linear(x_target) + received", "received", GRAPH),
    Mutation("sage: weights of a maximum", SAGE, "adj.with_weight(None)", "adj", GRAPH),
    Mutation(
        "types: rows in the order of the types",
        "hgraph/nn/graph/by_type.py",
        "place = torch.argsort(torch.argsort(node_type, stable=True))",
        "place = torch.argsort(node_type, stable=True)",
        "tests/models/test_typed.py",
    ),
    Mutation(
        "gat: heads score each other",
        GAT,
        "(each * heads[:, None, None])",
        "each.expand(-1, -1, -1, self.heads)",
        GRAPH,
    ),
    Mutation("gat: slope", GAT, "Additive(slope=self.negative_slope)", "Additive(slope=0.1)", GRAPH),
    Mutation("soft: heads not averaged", SOFT, "scale = scale / self.num_heads", "pass", SOFT_TESTS),
    Mutation(
        "soft: offset dropped",
        SOFT,
        "return self.prototype_base + offset",
        "return self.prototype_base + 0 * offset",
        SOFT_TESTS,
    ),
    Mutation(
        "soft: padding in the mean",
        SOFT,
        "count = mask.sum(-1, keepdim=True).clamp(min=1)",
        "count = x.shape[-2]",
        SOFT_TESTS,
    ),
    Mutation("soft: gate dropped", SOFT, "update = update * self.gate.to(update.dtype)", "pass", SOFT_TESTS),
    Mutation(
        "selection: the worst chosen",
        SELECT,
        "descending=True, stable=True",
        "descending=False, stable=True",
        SOFT_TESTS,
    ),
    Mutation("selection: no straight-through gradient", SELECT, "on = on + p - p.detach()", "pass", SOFT_TESTS),
    Mutation("vit: a token hears itself", VIT, " - patterns.sliding_window(n, 1)", "", SOFT_TESTS),
    Mutation("vit: shifts along the sides", VIT, "(x, -x, y, -y)", "(x, -x, 0, 0)", SOFT_TESTS),
    Mutation("area: positional term dropped", AREA, "+ self.pe(v))", ")", YOLO_TESTS),
    Mutation("area: q and k swapped", AREA, "q, k = self.qk(x)", "k, q = self.qk(x)", YOLO_TESTS),
    Mutation(
        "hyperace: order of the branches",
        ACE,
        "[y0, self.branch1(y1), *low, self.branch2(y1)]",
        "[y0, self.branch2(y1), *low, self.branch1(y1)]",
        YOLO_TESTS,
    ),
    Mutation(
        "weights: incidence weights dropped",
        "hgraph/nn/hypergraph/two_step.py",
        "ones if v2e.weight is None else v2e.weight.to(dtype)",
        "ones",
        HYPER,
    ),
    Mutation(
        "degree: zero inverts to infinity",
        "hgraph/structure/coo.py",
        "torch.where(zero, 0.0, torch.where(zero, 1.0, degree) ** exponent)",
        "degree**exponent",
        STRUCTURE,
    ),
    Mutation(
        "normalize: the other degree",
        "hgraph/structure/algebra.py",
        "adj.target_degree().to(out.dtype), exponent)[adj.target]",
        "adj.source_degree().to(out.dtype), exponent)[adj.indices]",
        STRUCTURE,
    ),
    Mutation(
        "spmm: weight dropped",
        LINEAR,
        "        weight = weight.to(x.dtype)\n",
        "        weight = torch.ones_like(weight).to(x.dtype)\n",
        OPS,
    ),
    Mutation(
        "spmm: gradient with weights in row order",
        LINEAR,
        "transposed_weight(weight, adj[6]), grad)",
        "weight, grad)",
        OPS,
    ),
    Mutation("spmm: weights of the transpose for another order", LINEAR, "found[0]() is not perm or ", "", OPS),
    Mutation(
        "gat, compiled: loops that there were count twice",
        STEPS,
        'torch.where(lacks_loop(adj), 0.0, float("-inf")).to(dtype)',
        "torch.zeros(adj.num_targets, dtype=dtype)",
        OPS,
    ),
    Mutation(
        "spmm: gradient over the structure itself", LINEAR, "grad_x = spmm(transpose(adj)", "grad_x = spmm(adj", OPS
    ),
    Mutation(
        "sddmm: heads mixed",
        LINEAR,
        "product.unflatten(-1, (heads, a.shape[-1] // max(heads, 1))).sum(-1)",
        "product.unflatten(-1, (a.shape[-1] // max(heads, 1), heads)).sum(-2)",
        OPS,
    ),
    Mutation("sddmm: gradient of b in row order", LINEAR, "grad.index_select(0, adj[6]), a)", "grad, a)", OPS),
    Mutation("hubs: a run lost", LINEAR, "(length + _LONGEST_RUN - 1) // _LONGEST_RUN", "length // _LONGEST_RUN", OPS),
    Mutation("softmax: no shift", SOFTMAX, "torch.exp(score - shift.index_select(0, adj[2]))", "torch.exp(score)", OPS),
    Mutation(
        "softmax: gradient without its mean", SOFTMAX, "flow - alpha * at_target(adj, row_sum(adj, flow))", "flow", OPS
    ),
    Mutation("attend: lse without the shift", ATTENTION, "lse = shift + total.log()", "lse = total.log()", OPS),
    Mutation("attend: no gradient through lse", ATTENTION, ".to(lse.dtype) - grad_lse", ".to(lse.dtype)", OPS),
    Mutation("attend: dropout in the normalizer", ATTENTION, "flow = prob * sddmm", "flow = alpha * sddmm", OPS),
    Mutation(
        "attend: key heads in another order", ATTENTION, "(key_heads, -1)).sum(2)", "(-1, key_heads)).sum(1)", OPS
    ),
    Mutation("attend: bias columns in another order", ATTENTION, "(-1, columns)).sum(1)", "(columns, -1)).sum(2)", OPS),
    Mutation(
        "attend: slope on the wrong side",
        ATTENTION,
        "reach > 0, flow, flow * slope",
        "reach < 0, flow, flow * slope",
        OPS,
    ),
    Mutation("dropout: seed's high half ignored", "hgraph/ops/random.py", " ^ (seed >> 32)", "", OPS),
    Mutation("merge: one side's share", "hgraph/ops/merge.py", "(share_a / total)", "share_a", OPS),
    Mutation("merge: both empty", "hgraph/ops/merge.py", "torch.where(empty, 1.0, total)", "total", OPS),
    Mutation(
        "mean: counts from the other side",
        "hgraph/ops/sparse/mean.py",
        "adj[0].diff()",
        "adj[3].diff()[: len(adj[0]) - 1]",
        OPS,
    ),
    Mutation("max: ties not shared", "hgraph/ops/sparse/extremum.py", "ties.clamp(min=1)", "1", OPS),
    Mutation(
        "max: gradients made that nobody asks for",
        "hgraph/ops/sparse/extremum.py",
        "_, of_weight, of_x, _ = ctx.needs_input_grad",
        "of_weight, of_x = weight is not None, True",
        "tests/ops/test_gradients.py",
    ),
    Mutation(
        "forward mode: tangents lost in silence",
        "hgraph/_torch.py",
        "forward_ad.unpack_dual(a).tangent is not None",
        "False",
        "tests/ops/test_forward_mode.py",
    ),
    Mutation(
        "benchmarks: gradients of the reference by native kernels",
        "hgraph/benchmarks/harness.py",
        "return OnReference(gradient(method.call, inputs, grad))",
        "pass",
        "tests/benchmarks/test_harness.py",
        CXX,
    ),
    Mutation(
        "native: no huge pages asked for", NATIVE, "size > _LARGE", "size > 2**40", "tests/ops/test_native.py", CXX
    ),
    Mutation(
        "native: headers changed and not built again",
        NATIVE,
        "in (SOURCE, *HEADERS)]",
        "in (SOURCE,)]",
        "tests/ops/test_native.py",
        CXX,
    ),
    Mutation(
        "native: max flows back from everywhere",
        "hgraph/kernels/native_extremum.h",
        "w * x[i] == load<V>(a.top + j) ?",
        "true ?",
        "tests/ops/test_native.py",
        CXX,
    ),
    Mutation(
        "native: a max's weights hear overlapping features twice",
        "hgraph/kernels/native_extremum.h",
        'std::nanf("")',
        "own[last + i]",
        "tests/ops/test_native.py",
        CXX,
    ),
    Mutation(
        "native: max flows back by weights of other edges",
        "hgraph/ops/bindings/native.py",
        "_columns(transposed_weight(weight, adj[6]) if of_x else None)",
        "weight if weight is None or weight.dim() > 1 else weight.unsqueeze(1)",
        "tests/ops/test_native.py",
        CXX,
    ),
    Mutation(
        "native: max of ties is not shared",
        "hgraph/kernels/native_extremum.h",
        "grad[t * width + i] / std::max(ties[i], 1.f)",
        "grad[t * width + i]",
        "tests/ops/test_native.py",
        CXX,
    ),
    Mutation(
        "max: min taken",
        "hgraph/ops/sparse/extremum.py",
        '"amax" if largest else "amin"',
        '"amin" if largest else "amax"',
        OPS,
    ),
    Mutation(
        "tokens: moh without gates",
        "hgraph/nn/attention/moh/layer.py",
        "heads = heads * routed.gates.unsqueeze(-1).to(heads.dtype)",
        "pass",
        "tests/papers/test_19_moh.py",
    ),
    Mutation(
        "tokens: norms of queries without their spread",
        "hgraph/nn/attention/moh/router.py",
        "(norm / torch.where(spread > 0, spread, 1.0)).softmax(-1)",
        "norm.softmax(-1)",
        "tests/papers/test_19_moh.py",
    ),
    Mutation(
        "tokens: bands a block too wide",
        "hgraph/nn/attention/moa/layer.py",
        "rule.blocks(n, self.block_size) * self.block_size for rule",
        "(rule.blocks(n, self.block_size) + 1) * self.block_size for rule",
        "tests/papers/test_31_moa.py",
    ),
    Mutation(
        "tokens: rings read what was written over",
        "hgraph/nn/attention/moa/state.py",
        "(token // self.block_size + 1 - self.widths[h])",
        "(token // self.block_size - self.widths[h])",
        "tests/papers/test_31_moa.py",
    ),
    Mutation(
        "tokens: reversed sqa tiles its queries",
        "hgraph/nn/attention/sqa.py",
        "query.repeat_interleave(self.query_heads // query.shape[-2], dim=-2)",
        "query.repeat(*(1,) * (query.dim() - 2), self.query_heads // query.shape[-2], 1)",
        "tests/papers/test_39_sqa.py",
    ),
    Mutation(
        "tokens: the descent keeps the worst",
        "hgraph/patterns/select.py",
        "descending=True, stable=True",
        "descending=False, stable=True",
        "tests/patterns/test_select.py",
    ),
    Mutation(
        "tokens: a tile listed twice counts twice",
        "hgraph/structure/block_adjacency.py",
        "index.masked_fill(again, columns)",
        "index",
        "tests/patterns/test_select.py",
    ),
    Mutation(
        "tokens: rows that listen under the masks of others",
        "hgraph/ops/tiles/receivers.py",
        "[0][rows] == 0",
        "[0][: len(rows)] == 0",
        "tests/ops/test_receivers.py",
    ),
    Mutation(
        "soft labels: mean over classes too",
        "hgraph/distill/objectives/soft_labels.py",
        "torch.xlogy(t, t) - t * log_s).sum(-1)",
        "torch.xlogy(t, t) - t * log_s).mean(-1)",
        "tests/distill/test_terms.py",
    ),
    Mutation(
        "high order: sizes ignored",
        "hgraph/distill/objectives/high_order.py",
        'logits.double().softmax(-1), reduce="mean")\n            log_s',
        "logits.double().softmax(-1))\n            log_s",
        "tests/distill/test_terms.py",
    ),
    Mutation(
        "clique: loops kept",
        "hgraph/structure/expansion.py",
        "keep = adj.indices != adj.target",
        "keep = adj.indices == adj.indices",
        STRUCTURE,
    ),
    Mutation(
        "groups: weight of the group dropped", GROUPS, "(prob / whole)", "(1 / whole)", "tests/ops/test_groups.py"
    ),
    Mutation(
        "groups: mean within the group not taken off",
        GROUPS,
        "(reach - mean.unsqueeze(-1)) * each",
        "reach * each",
        "tests/ops/test_groups.py",
    ),
    Mutation(
        "groups: delta left out",
        GROUPS,
        "dropped * mean - prob * from_out",
        "dropped * mean",
        "tests/ops/test_groups.py",
    ),
    Mutation(
        "groups: dropout once a row, not a query",
        GROUPS,
        "row.unsqueeze(2) * each + torch.arange(each, device=like.device)",
        "row.unsqueeze(2) * each + 0 * torch.arange(each, device=like.device)",
        "tests/ops/test_groups.py",
    ),
    Mutation(
        "landmark: landmarks heard within their blocks",
        LANDMARK,
        "past_k[..., :-1, :, :],\n        past_v[..., :-1, :, :]",
        "past_k,\n        past_v",
        LANDMARK_TESTS,
    ),
    Mutation(
        "landmark: the own block's landmark heard",
        "hgraph/patterns/place.py",
        "rows + (rows % size != block_size).long()",
        "rows + 1",
        LANDMARK_TESTS,
    ),
    Mutation("landmark: earlier blocks forgotten", LANDMARK, "merge(result, past)", "result", LANDMARK_TESTS),
    Mutation(
        "landmark: older blocks scored where they stood", RECALL, "age.clamp(max=self.topk + 1)", "age", LANDMARK_TESTS
    ),
    Mutation(
        "landmark: older blocks all heard in one place",
        RECALL,
        "self.topk + 1 - rank",
        "self.topk + 1",
        LANDMARK_TESTS,
    ),
    Mutation(
        "landmark: recent blocks heard where they were", RECALL, "entry.shape[-1] - rank)", "age)", LANDMARK_TESTS
    ),
    Mutation(
        "landmark: chosen blocks not in the order of time",
        RECALL,
        "sort(-1, descending=True)",
        "sort(-1)",
        LANDMARK_TESTS,
    ),
    Mutation(
        "landmark: the ring forgets the newest",
        RECALL,
        "[-self.max_blocks :]",
        "[: self.max_blocks]",
        LANDMARK_TESTS,
    ),
    Mutation(
        "landmark: kept keys not turned",
        RECALL,
        "key if base is None else apply_rotary_emb(key, inside, base)",
        "key",
        LANDMARK_TESTS,
    ),
    Mutation(
        "routing: long centroids win",
        KMEANS,
        "F.normalize(upcast(self._means()), dim=-1) * x.shape[-1] ** 0.5",
        "upcast(self._means())",
        ROUTING_TESTS,
    ),
    Mutation(
        "routing: counts decay wrongly",
        KMEANS,
        "self.size.lerp_(found[..., -1], 1 - self.decay)",
        "self.size.lerp_(found[..., -1], self.decay)",
        ROUTING_TESTS,
    ),
    Mutation(
        "routing: centroids move twice under checkpointing",
        KMEANS,
        "        if _repeats():\n            return\n",
        "",
        ROUTING_TESTS,
    ),
    Mutation(
        "routing: all of the cluster is heard", ROUTES, "torch.maximum(first, stop - size)", "first", ROUTING_TESTS
    ),
    Mutation(
        "routing: a first token hears nobody", ROUTES, "torch.where(count > 1, last, last + 1)", "last", ROUTING_TESTS
    ),
    Mutation(
        "routing: places compared without the own one",
        ROUTES,
        "torch.searchsorted(keys, queries, right=True)",
        "torch.searchsorted(keys, queries)",
        ROUTING_TESTS,
    ),
    Mutation(
        "routing: clusters added, not averaged", ROUTES, 'reduce="mean")[:-1]', 'reduce="sum")[:-1]', ROUTING_TESTS
    ),
    Mutation(
        "routing: commitment of shared queries counted once",
        ROUTING,
        "(second[0] if second else first)",
        "(second[0] if second else 0)",
        ROUTING_TESTS,
    ),
    Mutation("runs: the beginning forgotten", SLOTS, " & ~_below(begin)", "", "tests/patterns/test_slots.py"),
    Mutation(
        "axial: rows above not shifted",
        AXIAL,
        "_next(self.outer(_plus(self.position(h), condition)), 1)",
        "self.outer(_plus(self.position(h), condition))",
        AXIAL_TESTS,
    ),
    Mutation("axial: another gate", AXIAL, "torch.sigmoid(1.702 * z)", "torch.sigmoid(z)", AXIAL_TESTS),
    Mutation(
        "axial: rows above cut at the column",
        AXIAL,
        "if i % 2 else block(_ROW) for",
        "if i % 2 else block(_ROW, causal=True) for",
        AXIAL_TESTS,
    ),
    Mutation("axial: later slices seen", AXIAL, "seen = torch.where(before, x, 0)", "seen = x", AXIAL_TESTS),
]

LONGEST, LONGEST_TESTS = "hgraph/structure/row_lengths.py", "tests/structure/test_longest.py"
MUTATIONS += [
    Mutation(
        "caches: a tensor's value after a write", "hgraph/cache.py", " and found[0] == version(tensor)", "",
        "tests/structure/test_longest.py",
    ),
    Mutation(
        "longest: what algebra makes is not looked at", "hgraph/structure/edge_list.py",
        "row_lengths.measure(*pointers)", "pass", LONGEST_TESTS,
    ),
    Mutation("longest: copies are not looked at", LONGEST, "    measure(old)", "    pass", LONGEST_TESTS),
    Mutation(
        "longest: columns are not looked at", "hgraph/structure/edge_list.py", "pointers = adj.indptr, adj.t_indptr",
        "pointers = (adj.indptr,)", LONGEST_TESTS,
    ),
    Mutation(
        "sums: the transpose in the numbers of repeats", "hgraph/structure/edge_list.py", "perm = run[adj.perm[t_at]]",
        "perm = adj.perm[t_at]", "tests/ops/test_prepare.py",
    ),
    Mutation(
        "waits: the checks of values one by one", "hgraph/checks.py", "self._pending.append((bad, error))",
        "(bool(bad.any()), self._pending.append((bad, error)))", "tests/structure/test_waits.py",
    ),
]  # fmt: skip

MUTATIONS += [
    Mutation(
        "memory: gradients of decays without what goes across chunks", "hgraph/ops/chain/affine.py",
        "out = out + across.unsqueeze(2)", "pass", "tests/ops/test_scan.py",
    ),
    Mutation(
        "affine: pieces of a sequence forget those before", "hgraph/ops/chain/affine.py",
        "a_some[:, :1] * out[-1][:, -1:]", "0 * out[-1][:, -1:]", "tests/ops/test_scan.py",
    ),
    Mutation(
        "lightning: one more decay for layers above the first", "hgraph/nn/recurrent/linear.py",
        "1 - depth / max(count - 1, 1) + 1e-5", "1 - depth / count + 1e-5",
        "tests/papers/test_14_lightning_attention_2.py",
    ),
    Mutation(
        "aaren: padding gets attention", "hgraph/nn/recurrent/aaren.py",
        "mask[..., None, None, :], score, float(\"-inf\")", "mask[..., None, None, :], score, 0.0",
        "tests/papers/test_29_aaren.py",
    ),
    Mutation(
        "transnormer: positions start again at every step", "hgraph/nn/recurrent/transnormer.py",
        "self.lrpe(query, start), self.lrpe(key, start)", "self.lrpe(query, 0), self.lrpe(key, 0)",
        "tests/papers/test_16_transnormer.py",
    ),
    Mutation(
        "memory: weak decays with the rounding of strong ones", "hgraph/ops/chain/affine.py",
        "torch.where(causal.transpose(2, 3), 0.0, log.unsqueeze(3)).cumsum(2)",
        "decay.unsqueeze(3) - decay.unsqueeze(2)", "tests/ops/test_scan.py",
    ),
]  # fmt: skip

SCATTER, SCATTER_TESTS = "hgraph/ops/scatter.py", "tests/ops/test_scatter.py"
MUTATIONS += [
    Mutation(
        "scatter: lists of their own meet", SCATTER, "index + dim_size * torch", "index + 0 * torch", SCATTER_TESTS
    ),
    Mutation("scatter: integers meet 0", SCATTER, "include_self=False", "include_self=True", SCATTER_TESTS),
    Mutation("segments: pointers that end early", SCATTER, "int(indptr[-1]) != size", "False", SCATTER_TESTS),
]

TILES, TILES_BACK, ROWS = ("hgraph/kernels/" + n for n in ("block_attend.py", "block_attend_grads.py", "csr_attend.py"))
TILES_CUT, ROWS_BACK = "hgraph/kernels/tile_split.py", "hgraph/kernels/csr_attend_grads.py"
BLOCKS, KERNELS = "tests/kernels/test_blocks.py", "tests/kernels"
CUT = f"{BLOCKS}::test_long_rows_and_often_visited_tiles_are_cut"
ALONE = f"{BLOCKS}::test_an_example_has_the_same_bits_in_a_batch"
BEYOND = f"{BLOCKS}::test_targets_beyond_the_last_add_nothing"
WIDE = f"{BLOCKS}::test_cut_rows_and_tiles_give_the_same_bits_in_int64"
MUTATIONS += [
    Mutation(name, file, old, new, tests, needs="triton")
    for name, file, old, new, tests in (
        ("tiles: diagonal left out", TILES, "r - tile_slice * COLS + 1, COLS", "r - tile_slice * COLS, COLS", BLOCKS),
        ("tiles: diagonal left out of gradients of k", TILES, "(rule == -2, c, 0)", "(rule == -2, c + 1, 0)", BLOCKS),
        ("tiles: mask left out of gradients of k", TILES,
         " & _has(_words(rule, mask, r, tile_slice, BLOCK, COLS), c, COLS)",
         "", BLOCKS),
        ("tiles: sources beyond the last", TILES, "tl.minimum(left, tl.where(", "tl.minimum(COLS, tl.where(", BLOCKS),
        ("tiles: targets beyond the last heard", TILES_BACK,
         "            log_sum = finite(tl.load(lse + at_row, mask=live, other=float(\"inf\")))",
         "            log_sum = finite(tl.load(lse + at_row, mask=live, other=0))", BEYOND),
        ("tiles: targets beyond the last in the table", TILES_BACK,
         "target < num_targets\n    log_sum = finite(tl.load(lse + at_row, mask=live, other=float(\"inf\")))",
         "target < num_targets\n    log_sum = finite(tl.load(lse + at_row, mask=live, other=0))", BEYOND),
        ("tiles: places the wrong way round", TILES, "(t - s + (size - 1) // 2", "(s - t + (size - 1) // 2", BLOCKS),
        ("tiles: sum not rescaled", TILES, "row_sum = row_sum * rescale + tl.sum",
         "row_sum = row_sum + tl.sum", BLOCKS),
        ("tiles: gradient of q without delta", TILES_BACK, "* (inner - shift[:, None])", "* inner", BLOCKS),
        ("tiles: k without dropout", TILES_BACK, "change = share * inner", "change = alpha * inner", BLOCKS),
        ("tiles: table's examples lost", TILES_BACK, "by_head.sum((0, 3))", "by_head[0].mean(2)", BLOCKS),
        ("rows: slots not rescaled", ROWS, "whole = tl.sum(row_sum * rescale, axis=1)",
         "whole = tl.sum(row_sum, axis=1)",
         f"{KERNELS}/test_attend.py"),
        ("rows: dropout in the normalizer", ROWS, "row_sum = row_sum * rescale + share\n        if LIMIT", "if LIMIT",
         f"{KERNELS}/test_attend.py"),
        ("draw: mixed once", "hgraph/kernels/random.py", "_mixed(_mixed(low) ^ high)", "_mixed(low ^ high)",
         f"{KERNELS}/test_attend.py"),
        ("split: last part lost", "hgraph/kernels/split.py", "// LONGEST - chunk + 1, 0)", "// LONGEST - chunk, 0)",
         f"{KERNELS}/test_reduce.py"),
        ("reduce: max hides NaN", "hgraph/kernels/csr_reduce.py", "return tl.where(nan, float(\"nan\"), best)",
         "return best", f"{KERNELS}/test_reduce.py"),
        ("chunks: state not faded", "hgraph/kernels/chunk_scan.py", "carried * tl.exp(log)[:, None]", "carried",
         f"{KERNELS}/test_scan.py"),
        ("split: first part at the wrong slot", "hgraph/kernels/split.py", "tl.load(target + low) == row, 0, 1)",
         "tl.load(target + low) == row, 0, 0)", f"{KERNELS}/test_reduce.py"),
        ("rows: k without delta", ROWS_BACK, " - alpha * shift\n", "\n", f"{KERNELS}/test_attend.py"),
        ("rows: v drops other edges", ROWS_BACK, "share *= dropout_mask(seed, e.to(tl.int64) * H + head",
         "share *= dropout_mask(seed, e.to(tl.int64) * H", f"{KERNELS}/test_attend.py"),
        ("rows: parts merged without their maxima", ROWS, "acc = acc * rescale[:, None] + share[:, None] * values",
         "acc = acc + share[:, None] * values", f"{KERNELS}/test_attend.py"),
        ("tiles: lse in units of log 2", TILES, "(row_max + tl.log2(row_sum)) * 0.6931471805599453",
         "row_max + tl.log2(row_sum)", BLOCKS),
        ("tiles: first head of a group alone", TILES_BACK, "head = key_head * (H // KEYS) + member",
         "head = key_head * (H // KEYS)", BLOCKS),
        ("tiles: middle of an even table", TILES, "(size - 1) // 2, 0)", "size // 2, 0)", BLOCKS),
        ("tiles: keys of one part forgotten", TILES_BACK, "tl.load(out + place, mask=here, other=0) + total", "total",
         BLOCKS),
        ("tiles: pieces by the batch", TILES, "programs_of(part, given, how) // given.q.shape[0]",
         "programs_of(part, given, how)", ALONE),
        ("tiles: pieces by the slice", TILES_BACK, "            programs, sharers, found, flows = ",
         "            visits, pieces = cut(some, given, how)\n            programs, sharers, found, flows = ", ALONE),
        ("tiles: pieces of rows beyond int32", TILES, "how[\"WIDE\"] = how[\"WIDE\"] or wide(found)", "pass", WIDE),
        ("tiles: pieces of q beyond int32", TILES_BACK, "how[\"WIDE\"] = how[\"WIDE\"] or wide(found)", "pass", WIDE),
        ("tiles: pieces of keys beyond int32", TILES_BACK, " or wide(partial_k, partial_v)", "", WIDE),
        ("tiles: slots for the pieces of one head", TILES_BACK, "members * rows * most // visits",
         "rows * most // visits", CUT),
        ("tiles: slots for fewer pieces than a tile has", TILES_BACK, "(triton.cdiv(longest, visits) - 1)",
         "(triton.cdiv(longest, visits) - 2)", CUT),
        ("tiles: pieces of the first head of a group", TILES_BACK, ".amax(2).flatten(0, 1)", "[:, :, 0].flatten(0, 1)",
         CUT),
        ("tiles: pieces not weighed", TILES_CUT, "share[:, None] * found", "found", CUT),
        ("tiles: lse of the last piece", TILES_CUT, "row_sum = row_sum * rescale + share\n", "row_sum = share\n", CUT),
        ("tiles: gradient of the last piece", TILES_CUT, "acc += found\n", "acc = found\n", CUT),
        ("tiles: rows that hear nobody shifted by -inf", TILES_CUT, "shift = finite(higher)", "shift = higher", CUT),
        ("tiles: last piece of keys lost", TILES_CUT, "for piece in range(0, pieces):",
         "for piece in range(0, pieces - 1):", CUT),
        ("tiles: later pieces of keys alone", TILES_CUT, "tl.load(out + at, mask=here, other=0) + acc, mask=here",
         "acc, mask=here", CUT),
        ("extremum: ties of what is not rounded", "hgraph/kernels/csr_extremum.py",
         "reached = message.to(mine.dtype).to(ACC) ==", "reached = message ==", f"{KERNELS}/test_reduce.py"),
        ("softmax: masked rows shifted by -inf", "hgraph/kernels/edge_softmax.py", "tl.exp(s - finite(high)) / ",
         "tl.exp(s - high) / ", f"{KERNELS}/test_edge.py"),
        ("mean: long rows not divided", "hgraph/kernels/csr_reduce.py",
         "edges_of_row = tl.load(indptr + row + 1) - tl.load(indptr + row)",
         "edges_of_row = count", f"{KERNELS}/test_reduce.py"),
        ("chunks: a place does not hear itself", "hgraph/kernels/chunk_scan.py", "each[:, None] >= each[None, :]",
         "each[:, None] > each[None, :]", f"{KERNELS}/test_scan.py"),
        ("affine: decay of the last step only", "hgraph/kernels/affine_scan.py", "left *= decay", "left = decay",
         f"{KERNELS}/test_scan.py"),
        ("reduce: long rows of every example in one slot", "hgraph/kernels/csr_reduce.py",
         "slots = (parts - num_rows) * batch + v - num_rows", "slots = v - num_rows", f"{KERNELS}/test_reduce.py"),
        ("rows: slope of the additive score", ROWS, "tl.where(reach > 0, reach, reach * SLOPE)", "reach",
         f"{KERNELS}/test_attend.py"),
        ("rows: slope in the gradients of k", ROWS_BACK,
         "else:\n                acc += tl.where(reach > 0, change, change * SLOPE)",
         "else:\n                acc += change", f"{KERNELS}/test_attend.py"),
        ("edges: slope of the score with a vector", "hgraph/kernels/score_additive.py",
         "tl.where(reach > 0, reach, reach * SLOPE) * vector", "reach * vector", f"{KERNELS}/test_edge.py"),
        ("rows: lse without the largest score", ROWS,
         "top + tl.log(tl.where(whole == 0, 1.0, whole))), mask=active",
         "tl.log(tl.where(whole == 0, 1.0, whole))), mask=active", f"{KERNELS}/test_attend.py"),
        ("rows: lse of long rows without the largest score", ROWS,
         "top + tl.log(tl.where(whole == 0, 1.0, whole))), mask=count > 0",
         "tl.log(tl.where(whole == 0, 1.0, whole))), mask=count > 0", f"{KERNELS}/test_attend.py"),
        ("rows: lse of a masked row is 0", ROWS,
         "tl.where(whole == 0, float(\"-inf\"), top + tl.log(tl.where(whole == 0, 1.0, whole))), mask=active",
         "tl.where(whole == 0, 0.0, top + tl.log(tl.where(whole == 0, 1.0, whole))), mask=active",
         f"{KERNELS}/test_attend.py"),
        ("chunks: weak decays with the rounding of strong ones", "hgraph/kernels/chunk_scan.py",
         "since = tl.cumsum(tl.where(each[:, None] > each[None, :], step[:, None], 0.0), axis=0)",
         "since = log[:, None] - log[None, :]", f"{KERNELS}/test_scan.py"),
        ("channels: -inf times 0", "hgraph/kernels/chunk_channels.py", "return tl.where(log < -104.0, -104.0, log)",
         "return log", f"{KERNELS}/test_scan.py"),
        ("channels: the last level left out", "hgraph/kernels/chunk_scan.py", "LARGEST.bit_length() - 1",
         "LARGEST.bit_length() - 2", f"{KERNELS}/test_scan.py"),
        ("channels: a place decays what it adds", "hgraph/kernels/chunk_channels.py", "other <= place, other > place)",
         "other <= place, other >= place)", f"{KERNELS}/test_scan.py"),
        ("channels: states without the next decay", "hgraph/kernels/chunk_channels.py", "log_a + at + D, mask=more",
         "log_a + at, mask=more", f"{KERNELS}/test_scan.py"),
        ("launches: nobody asks how long rows are", "hgraph/ops/bindings/triton.py",
         "return 1 if one_each else longest(adj[0])",
         "return None", f"{KERNELS}/test_verbs.py"),
        ("launches: columns taken for as long as rows", "hgraph/ops/bindings/triton.py",
         "per_tie, longest(adj[3])).view", "per_tie, longest(adj[0])).view", f"{KERNELS}/test_verbs.py"),
        ("chunks: nothing carried from chunk to chunk", "hgraph/kernels/chunk_scan.py",
         "state = tl.exp(log) * state + tl.load(gain", "state = tl.load(gain", f"{KERNELS}/test_scan.py"),
    )
]  # fmt: skip


MUTATIONS += [
    Mutation(f"typed: {name}", f"hgraph/{file}", old, new, tests)
    for name, file, old, new, tests in (
        ("RGCN without its ReLU", "models/node/rgcn.py", "structure).relu()", "structure)",
         "tests/models/test_typed.py"),
        ("HGT's types all take the first map", "nn/graph/by_type.py", "weight.unbind(0), bias",
         "weight.unbind(0)[:1] * len(weight), bias", "tests/models/test_typed.py"),
        ("HAN classifies what attention read", "models/node/han.py", "self.conv(x, structure, node_type)",
         "self.conv(2 * x, structure, node_type)", "tests/models/test_typed.py"),
        ("a number of the size itself is taken", "convert/triples.py", "self.triples >= sizes",
         "self.triples > sizes", "tests/convert/test_triples.py"),
        ("the line of a number is that of another", "convert/triples.py", "self.lines[row]",
         "self.lines[0]", "tests/convert/test_triples.py"),
        ("a trained recommender is served as it began", "train/scores.py",
         "return model.refresh(first) if trained else first", "return first", "tests/train/test_recommender.py"),
        ("validation ranks what is trained on", "train/recommender.py",
         "[data.train.to(device)]", "[]", "tests/train/test_recommender.py"),
        ("facts take the L2 of pairs", "train/recommender.py", "l2=self.l2[1])", "l2=self.l2[0])",
         "tests/train/test_recommender.py"),
        ("every refresh derives blocks anew", "train/recommender.py",
         "self.model.refresh(self.first)\n        return", "self.model.refresh(self.now)\n        return",
         "tests/train/test_recommender.py"),
        ("KGAT drops no messages", "models/recommend/kgat.py", "x = self.dropout(conv(x, structure))",
         "x = conv(x, structure)",
         "tests/papers/test_01_kgat.py"),
        ("KGAT's next layer hears what was not dropped", "models/recommend/kgat.py",
         "x = self.dropout(conv(x, structure))\n            yield x",
         "x = conv(x, structure)\n            yield self.dropout(x)", "tests/papers/test_01_kgat.py"),
        ("attention keeps a row for each edge", "nn/recommend/transr.py",
         "edge_score(block.adj, query.unsqueeze(1), key.unsqueeze(1)).squeeze(1)",
         "(query[block.adj.target.long()] * key[block.adj.indices.long()]).sum(-1)", "tests/papers/test_01_kgat.py"),
        ("NFM's pooled vector is not dropped", "models/recommend/nfm.py", "self.dropout(user[..., :d] * total + pairs)",
         "user[..., :d] * total + pairs", "tests/models/test_recommenders.py"),
        ("taken items keep their scores", "train/full_ranking.py",
         "return item.gather(1, order), value.gather(1, order)",
         "return item.gather(1, order), value.clamp(min=-1e9).gather(1, order)", "tests/train/test_recommender.py"),
        ("users that validate are the first ones", "train/recommender.py",
         "torch.randperm(len(some), generator=torch.Generator().manual_seed(seed))", "torch.arange(len(some))",
         "tests/train/test_recommender.py"),
        ("items are drawn as entities", "data/interactions.py", ">= self.num_items).long()", ">= 0).long()",
         "tests/data/test_interactions.py"),
        ("names over lines", "draw/marks.py", "extents, lines)", "extents, None)",
         "tests/structure/test_knowledge_graph.py"),
    )
]  # fmt: skip


MUTATIONS += [
    Mutation(f"own data: {name}", file, old, new, tests)
    for name, file, old, new, tests in (
        ("missing labels count", "hgraph/train/metrics.py", "known = labeled(y)",
         "known = torch.ones(len(y), dtype=torch.bool)", "tests/train/test_missing_labels.py"),
        ("NaN labels are labels", "hgraph/data/labels.py", "~y.isnan() if y.is_floating_point() else y >= 0",
         "y == y if not y.is_floating_point() else y > -1e9", "tests/train/test_missing_labels.py"),
        ("1.0 is another category", "hgraph/datasets/tables/cells.py", "return whole[1] if whole",
         "return cell if whole",
         "tests/datasets/test_inputs.py"),
        ("arrays are words", "hgraph/datasets/tables/cells.py",
         'for method in ("as_py", "to_pylist", "tolist", "to_list"):',
         "for method in ():", "tests/datasets/test_cells.py"),
        ("the first name wins", "hgraph/datasets/tables/roles.py", "if len(sets) == 1:", "if False:",
         "tests/datasets/test_roles.py"),
        ("classes by number", "hgraph/datasets/tables/inputs.py", "if theirs == self.class_names or", "if True or",
         "tests/datasets/test_inputs.py"),
        ("a comma is a decimal sign", "hgraph/datasets/tables/quantities.py",
         'if decimal is None and "," in text:', "if False:",
         "tests/datasets/test_quantities.py"),
        ("standardized predictions", "hgraph/train/tasks.py", "(outputs.double() * scale + mean)",
         "(outputs.double() * scale)", "tests/train/test_tasks.py"),
        ("missing targets count", "hgraph/train/tasks.py", "((outputs[train] - target) * known).square()",
         "(outputs[train] - target).square()", "tests/train/test_tasks.py"),
        ("classes weigh as often as they occur", "hgraph/train/tasks.py",
         "len(y) / (count.clamp(min=1) * (count > 0).sum())", "count", "tests/train/test_tasks.py"),
        ("smaller is worse", "hgraph/train/tasks.py", "return -score if self.select in _LOWER else score",
         "return score", "tests/train/test_tasks.py"),
        ("low ratings are recommended", "hgraph/data/interactions.py",
         "*([] if self.excluded is None else [self.excluded])", "", "tests/cli/test_first_hour.py"),
        ("cosine is euclidean", "hgraph/builders/points.py", "x = _unit(x)", "pass", "tests/cli/test_first_hour.py"),
        ("every file numbers its names", "hgraph/data/interactions.py", "if len(set(sizes.values())) > 1 or",
         "if False and", "tests/convert/test_triples.py"),
        ("a comment is a fact", "hgraph/convert/words.py", "if _is_comment(plain):", "if False:",
         "tests/convert/test_triples.py"),
        ("a threshold is not used", "hgraph/datasets/pairs.py", ">= min_rating for pair", ">= 0 for pair",
         "tests/datasets/test_shops.py"),
        ("negatives of any types", "hgraph/data/prediction.py", "if node_type is None:", "if True:",
         "tests/data/test_prediction.py"),
        ("negative degrees pass", "hgraph/structure/algebra.py",
         "bad = bad | (degree < 0) if root else bad", "pass",
         "tests/structure/test_signed_degrees.py"),
        ("the luckiest speed-up", "hgraph/distill/compare.py", "other.low / mine.high", "other.high / mine.low",
         "tests/distill/test_report.py"),
        ("negligible is not said", "hgraph/train/recommend.py", "path.weight < NEGLIGIBLE", "path.weight < 0",
         "tests/train/test_explanations.py"),
    )
]  # fmt: skip


_ZOO, _NETWORKS = "tests/nn/test_graph_zoo.py", "tests/models/test_graph_zoo.py"
MUTATIONS += [
    Mutation(f"graph zoo: {name}", f"hgraph/{file}", old, new, tests)
    for name, file, old, new, tests in (
        ("chunks start at the first edge", "ops/aggregate.py", "edges = slice(pointers[first], pointers[last])",
         "edges = slice(0, pointers[last] - pointers[first])", "tests/ops/test_aggregate.py"),
        ("a chunk takes all targets' rows", "ops/aggregate.py", "else target[..., targets, :]",
         "else target[..., : targets.stop - targets.start, :]", "tests/ops/test_aggregate.py"),
        ("messages are not weighted", "ops/aggregate.py", "weight[edges].to(sent.dtype)", "None",
         "tests/ops/test_aggregate.py"),
        ("GATv2 scores keys alone", "nn/graph/gatv2.py", "return (wide * self.score",
         "return (wide.abs() * self.score", _ZOO),
        ("GATv2 leaves out its loops", "nn/graph/gatv2.py", "if loops is not None:", "if False:", _ZOO),
        ("GIN without epsilon", "nn/graph/gin.py", "(1 + self.eps.to(x.dtype)) * x", "x", _ZOO),
        ("GINE without its ReLU", "nn/graph/gin.py", "self.edge_linear(edge)).relu()", "self.edge_linear(edge))", _ZOO),
        ("SGC smooths once less", "nn/graph/polynomial.py", "for _ in range(self.num_hops):\n            x =",
         "for _ in range(self.num_hops - 1):\n            x =", _ZOO),
        ("Chebyshev without the factor 2", "nn/graph/polynomial.py", "2 * step - found[-2]", "step - found[-2]", _ZOO),
        ("PNA without its own part in means", "nn/graph/pna.py", "there * (part + own)", "there * part", _ZOO),
        ("PNA scales isolated nodes", "nn/graph/pna.py", "torch.where(there > 0, log / delta, 1.0)",
         "log / delta", _ZOO),
        ("EdgeConv takes neighbors, not differences", "nn/graph/edge_conv.py", "own = self.target_linear(x) - key",
         "own = self.target_linear(x)", _ZOO),
        ("GatedGCN is not normalized", "nn/graph/gated.py", "total / (gates + self.eps)", "total", _ZOO),
        ("TransformerConv's gate is turned", "nn/graph/transformer.py", "torch.lerp(out, own,",
         "torch.lerp(own, out,", _ZOO),
        ("APPNP starts from zeros", "models/node/appnp.py", "smoothed(z, graph), own, self.alpha",
         "smoothed(z, graph), 0 * own, self.alpha", _NETWORKS),
        ("GCNII's beta without the layer", "models/node/gcnii.py", "math.log1p(self.lam / layer)",
         "math.log1p(self.lam)", _NETWORKS),
        ("H2GCN counts neighbors as two steps away", "models/node/h2gcn.py", "adj.reach(2) - (near | loops)",
         "adj.reach(2) - loops", _NETWORKS),
        ("LINKX without the skip", "models/node/linkx.py", "+ h_a + h_x).relu()", "+ h_a).relu()", _NETWORKS),
        ("GPS normalizes once", "nn/graph/gps.py", "self.norms[1](x + self.dropout(attended))",
         "x + self.dropout(attended)", _NETWORKS),
        ("errors are not scaled", "models/node/label_propagation.py", "scale * spread / length", "spread",
         _NETWORKS),
        ("GraphNorm takes the whole mean", "nn/norms.py", "self.mean_scale.to(wide.dtype) * wide.mean", "wide.mean",
         "tests/nn/test_norms.py"),
        ("dropped edges are not rescaled", "nn/structure_dropout.py",
         "adj.with_weight(weight / max(1 - p, 1e-6)).keep", "adj.with_weight(weight).keep", "tests/nn/test_norms.py"),
        ("patience counts epochs", "train/loop.py",
         "sum(\"validation\" in r for r in self.history[self.best_epoch :])",
         "len(self.history) - self.best_epoch", "tests/train/test_loop.py"),
        ("the last epoch has no score", "train/loop.py", "epoch % eval_every == 0 or epoch == epochs)",
         "epoch % eval_every == 0)", "tests/train/test_loop.py"),
        ("chunks of a structure keep it", "ops/aggregate.py", "_CHUNKS.put(adj.indptr,", "_CHUNKS.put(adj.indices,",
         "tests/ops/test_aggregate.py"),
        ("messages of other edges are taken", "ops/aggregate.py", "or sent.shape[-2] != part.num_edges", "",
         "tests/ops/test_aggregate.py"),
        ("more patience does not continue", "train/loop.py", "done.stopped = done.is_over(patience)", "pass",
         "tests/train/test_loop.py"),
        ("names may begin HTML", "report.py", '"&<>|[]*~', '"&>|[]*~', "tests/test_report.py"),
        ("a replaced file gets other permissions", "files.py", "if mode_of is not None and", "if False and",
         "tests/hostile/test_files.py"),
        ("Set2Set scales its scores", "nn/readout.py", "key, key, scale=1.0)", "key, key)", "tests/nn/test_readout.py"),
        ("pooling keeps the worst nodes", "nn/pooling.py", "descending=True", "descending=False",
         "tests/nn/test_readout.py"),
        ("a virtual node forgets its state", "nn/readout.py", "else received + state)", "else received)",
         "tests/nn/test_readout.py"),
        ("walks follow edges in one direction", "builders/encodings.py", "matrix.maximum(matrix.T).tocsr()", "matrix",
         "tests/builders/test_encodings.py"),
        ("the first eigenvector is kept", "builders/encodings.py", "_largest(affinity, wanted + 1)[:, 1:]",
         "_largest(affinity, wanted)", "tests/builders/test_encodings.py"),
        ("positional heads share a table", "nn/attention/positional.py", "[:num_tokens] + linear.bias",
         "[:num_tokens]", "tests/papers/test_18_positional.py"),
    )
]  # fmt: skip


def copied(folder: Path) -> Path:
    """The library and its tests, links followed, in a folder."""
    for name in ("hgraph", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def is_here(needs: str) -> bool:
    """Whether the tests of a mutation can run."""
    if needs == CXX:
        return any(map(shutil.which, ("g++", "clang++", "c++")))
    return not needs or importlib.util.find_spec(needs) is not None


def tests_fail(folder: Path, tests: str) -> bool:
    """Whether a test is red in a copied tree; only the first failure is waited for."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu and not real_data", tests]
    command = [sys.executable, "-c", _RUN, str(folder), *options]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.returncode == 1


def mutated(folder: Path, mutation: Mutation) -> bool:
    """Whether the tests notice a mutation; the folder is as it was afterwards."""
    path = folder / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.name}: {mutation.old!r} occurs {text.count(mutation.old)} times in {mutation.file}"
        )
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return tests_fail(folder, mutation.tests)
    finally:
        path.write_text(text, encoding="utf-8")


def _environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HGRAPH_FAST": "1"}


def main() -> int:
    """Run the mutations and print what became of each."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    survived = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = copied(Path(temporary).resolve())
        for mutation in MUTATIONS:
            if word in mutation.name and not is_here(mutation.needs):
                print(f"{'skipped':9} {mutation.name}: {mutation.needs} is not installed", flush=True)
            elif word in mutation.name:
                noticed = mutated(folder, mutation)
                survived += not noticed
                print(f"{'red' if noticed else 'SURVIVED':9} {mutation.name}", flush=True)
    print(f"{survived} survived")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
