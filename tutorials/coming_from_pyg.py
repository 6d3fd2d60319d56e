# %% [markdown]
# # Coming from PyG
#
# Each printed row is a pair of calls: in PyG and in hgraph. With PyG installed (`pip install 'hgraph[pyg]'`), both run
# with the same weights, and this tutorial checks that they agree; without it, only the calls of hgraph run.
# Run it with `python tutorials/coming_from_pyg.py`.

# %%
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hgraph import Graph, aggregate, convert, nn, propagate, scatter
from hgraph.models import GCN
from hgraph.train import seeded

HAS_PYG = importlib.util.find_spec("torch_geometric") is not None
torch.manual_seed(0)
pairs = torch.tensor([[0, 1, 1, 2, 3, 0], [1, 0, 2, 1, 0, 3]])  # source, target, in both directions
x = torch.randn(4, 5)

# %% [markdown]
# ## A graph is an object
#
# PyG passes `edge_index` to every call. Here you build a `Graph` once: it is checked, sorted by source and by target,
# and caches its degree norms. You pass the number of nodes and whether edges are directed.

# %%
graph = Graph.from_edge_index(pairs, num_nodes=4, directed=False)
print(graph, "in-degrees", graph.degree().tolist())

# %% [markdown]
# ## Layers
#
# The structure is the second argument, and sizes are `in_channels, out_channels`, as in PyG. Three arguments have other
# names: PyG's `heads`, `edge_dim` and `K` are `num_heads`, `edge_channels` and `num_hops` here.


# %%
def row(name: str, own: torch.nn.Module, peer: Callable[[Any], torch.nn.Module], weights: dict[str, str]) -> None:
    """Print a row; with PyG, give the layer PyG's weights and compare."""
    if HAS_PYG:
        import torch_geometric.nn as pyg

        theirs = peer(pyg)
        found = theirs.state_dict()
        own.load_state_dict({ours: found[name].view_as(own.state_dict()[ours]) for ours, name in weights.items()},
                            strict=False)  # fmt: skip
        torch.testing.assert_close(own(x, graph), theirs(x, pairs))
    print(f"{name:45} {list(own(x, graph).shape)}", "agrees with PyG" if HAS_PYG else "")


def same(**names: str) -> dict[str, str]:
    """Weights and biases of linear maps, by our name and PyG's."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in names.items() for part in ("weight", "bias")}


row("GCNConv(5, 3)", nn.GCNConv(5, 3), lambda p: p.GCNConv(5, 3), {"linear.weight": "lin.weight", "bias": "bias"})
row(
    "GATConv(5, 3, heads=2)", nn.GATConv(5, 3, num_heads=2), lambda p: p.GATConv(5, 3, heads=2),
    {"linear.weight": "lin.weight", "target_score": "att_dst", "source_score": "att_src", "bias": "bias"},
)  # fmt: skip
row(
    "GATv2Conv(5, 3, heads=2)", nn.GATv2Conv(5, 3, num_heads=2), lambda p: p.GATv2Conv(5, 3, heads=2),
    same(linear="lin_l", target_linear="lin_r") | {"score": "att", "bias": "bias"},
)  # fmt: skip
row("SGConv(5, 3, K=2)", nn.SGConv(5, 3, num_hops=2), lambda p: p.SGConv(5, 3, K=2), same(linear="lin"))
row(
    "TransformerConv(5, 3, heads=2)", nn.TransformerConv(5, 3, num_heads=2),
    lambda p: p.TransformerConv(5, 3, heads=2),
    same(query="lin_query", key="lin_key", value="lin_value", skip="lin_skip"),
)  # fmt: skip
row(
    "GINConv(Sequential(Linear, ReLU, Linear))", nn.GINConv(5, 3),
    lambda p: p.GINConv(torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU(), torch.nn.Linear(3, 3))),
    {f"mlp.{i}.{part}": f"nn.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")},
)  # fmt: skip

# %% [markdown]
# ## Edge features
#
# Edges are stored sorted by target. `sort_edges` permutes edge features into that order; call it once (`from_pyg` has
# done so).

# %%
edge_attr = torch.randn(pairs.shape[1], 2)
edges = graph.sort_edges(edge_attr)
print("GATConv(5, 3, edge_dim=2)", list(nn.GATConv(5, 3, edge_channels=2)(x, graph, edges).shape))

# %% [markdown]
# ## Your own message
#
# A `MessagePassing` class with `message` and `aggr` becomes one function call. `propagate` is the fastest; use it for
# weighted sums, means or maxima of rows. `aggregate` takes any function of source, target and edge features.

# %%
print("aggr='max'", propagate(graph.adj, x, reduce="max").shape)
difference = aggregate(graph.adj, lambda target, source: (source - target).abs(), target=x, source=x, reduce="mean")
print("message(x_i, x_j)", difference.shape)
print("scatter(x, index)", scatter(x, torch.tensor([0, 0, 1, 1]), dim=0, dim_size=2, reduce="mean").shape)

# %% [markdown]
# ## Convert data to and from PyG
#
# `from_pyg` and `to_pyg` convert whole data objects, with features, labels and masks.

# %%
if HAS_PYG:
    from torch_geometric.data import Data

    data = convert.from_pyg(Data(x=x, edge_index=pairs, y=torch.tensor([0, 1, 0, 1])))
    print("from_pyg:", data.structure, "->", convert.to_pyg(data))

# %% [markdown]
# ## Training
#
# Your PyTorch training loop works unchanged. `hgraph.train.fit` also restores the best state, resumes and logs.

# %%
with seeded(0):
    model = GCN(5, 8, 2, dropout=0.0)
y = torch.tensor([0, 1, 0, 1])
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
loss: Tensor = torch.tensor(0.0)
for _ in range(50):
    loss = torch.nn.functional.cross_entropy(model(x, graph), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss after 50 steps: {float(loss.detach()):.3f}")
