# %% [markdown]
# # Pick a structure, pick a message
#
# Every model in hgraph is two decisions: which structure the messages flow over, and which message flows. This tutorial
# covers both, from three nodes to a hypergraph network distilled into an MLP that needs no structure.
# Run it with `python tutorials/structures_and_main_job.py`, or cell by cell in an editor that knows `# %%`.

# %%
import os
from pathlib import Path

import torch

import hgraph
from hgraph import Adjacency, Graph, Hypergraph, attend, attention_weights, edge_softmax, merge, propagate

OUT = Path("runs/tutorial")
OUT.mkdir(parents=True, exist_ok=True)
FAST = os.environ.get("HGRAPH_FAST") == "1"  # the tests run this page with fewer epochs

# %% [markdown]
# ## Structures
#
# An `Adjacency` defines who receives from whom: row t lists the sources whose messages target t receives. Sizes are
# explicit, so nodes without edges are allowed.

# %%
adjacency = Adjacency.from_coo(target=[0, 0, 2], source=[1, 2, 2], num_targets=4, num_sources=3)
print(adjacency)
print("in-degree of each target:", adjacency.target_degree().tolist())

# %% [markdown]
# A `Graph` holds one square adjacency. A `Hypergraph` has hyperedges that join any number of nodes; messages go
# nodes -> hyperedges along `v2e` and back along `e2v`. Here six people and three meetings:

# %%
people = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn"]
meetings = Hypergraph.from_lists([[0, 1, 2], [2, 3], [3, 4, 2]], num_nodes=6)
print(meetings)
print("meetings a person:", dict(zip(people, meetings.node_degree().tolist(), strict=True)))
meetings.draw(names=people).figure.savefig(OUT / "meetings.png", dpi=120)

# %% [markdown]
# Structures make other structures: `clique()` joins people who met, `line()` joins meetings with common members,
# `dual()` swaps nodes and hyperedges, `subhypergraph` restricts, `reach(k)` is the receptive field of k layers.

# %%
print("who met whom:", meetings.clique().edge_index.tolist())
print("without Cleo:", meetings.subhypergraph(torch.tensor([0, 1, 3, 4, 5])).to_lists())
print(
    "receptive field of Ada after two steps:", meetings.clique().adj.reach(2).select(torch.tensor([0])).indices.tolist()
)

# %% [markdown]
# ## Messages
#
# `propagate` gathers from the sources and reduces at the targets. Two calls are one step over a hypergraph: each
# meeting averages its members, and each person averages their meetings. Finn attended none and gets 0, never NaN.

# %%
mood = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
meeting_mood = propagate(meetings.v2e, mood, reduce="mean")
print("meetings:", meeting_mood.flatten().tolist())
print("people:", propagate(meetings.e2v, meeting_mood, reduce="mean").flatten().tolist())

# %% [markdown]
# This is HGNN+ without its linear map. A custom layer is equally short:


# %%
class MyConv(torch.nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(in_channels, out_channels)

    def forward(self, x: torch.Tensor, hg: Hypergraph) -> torch.Tensor:
        y = propagate(hg.v2e, self.linear(x), reduce="mean")  # [M, F']
        return propagate(hg.e2v, y, reduce="mean")  # [N, F']


mine, theirs = MyConv(1, 4), hgraph.nn.HGNNPConv(1, 4)
theirs.linear.load_state_dict(mine.linear.state_dict())
torch.testing.assert_close(mine(mood, meetings), theirs(mood, meetings))

# %% [markdown]
# Attention is a message whose weights come from a softmax over each target's own edges. `attend` never stores
# anything of size edges x features; `attention_weights` recomputes the weights for inspection.

# %%
g = Graph.from_edge_index([[0, 1, 2, 3], [1, 2, 3, 0]], num_nodes=5, directed=False)
q, k, v = (torch.randn(5, 2, 8) for _ in range(3))  # 5 nodes, 2 heads, 8 channels
result = attend(g.adj, q, k, v)
shares = attention_weights(g.adj, q, k, result.lse)
torch.testing.assert_close(shares, edge_softmax(g.adj, hgraph.edge_score(g.adj, q, k) / 8**0.5))
print("node 4 has no edges: out", result.out[4].abs().max().item(), "lse", result.lse[4].tolist())

# %% [markdown]
# `merge` combines softmaxes over disjoint edge sets: attention over each half of the edges gives
# attention over all of them. Long-context and distributed attention use this.

# %%
forward = Graph.from_edge_index([[0, 1, 2, 3], [1, 2, 3, 0]], num_nodes=5, directed=True).adj
halves = merge(attend(forward, q, k, v), attend(forward.transpose(), q, k, v))
torch.testing.assert_close(halves.out, result.out)

# %% [markdown]
# ## Distillation
#
# Train a network on the structure, then deploy an MLP that does not need it. `digits` comes with scikit-learn:
# 1,797 images, each in a hyperedge with its nearest neighbors; 20 labels per class.

# %%
from hgraph.datasets import load
from hgraph.distill import compare
from hgraph.models import HGNNP, MLP
from hgraph.train import seeded

data = load("digits", seed=0)[0]
data.validate()  # every split proves that nothing held out is in its structure
with seeded(0):
    teacher = HGNNP(data.num_features, 32, data.num_classes)
    alone, student = (MLP(data.num_features, 128, data.num_classes) for _ in range(2))
result = compare(teacher, alone, student, data, seed=0, epochs=60 if FAST else 200, progress=False)
for name, model in result.items():
    one, every = 1e3 * model.latency_one_s, 1e3 * model.latency_all_s
    print(f"{name:8} test accuracy {model.test_accuracy:.3f}, one node {one:.3f} ms, all {every:.3f} ms")

# %% [markdown]
# The student is the same network as the MLP baseline, trained with the teacher's soft labels on every node.
# It needs no structure for predictions. The same on the command line, with a report and plots: `hgraph distill digits
# --teacher hgnn+ --seed 0 --out runs/demo`.

# %%
assert result.student.test_accuracy > result.mlp.test_accuracy
