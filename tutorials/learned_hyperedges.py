# %% [markdown]
# # Learned hyperedges
#
# A hypergraph can be learned. Here a network learns which pixels of a photograph belong together,
# because it must reconstruct the photograph from six hyperedges. Run with
# `python tutorials/learned_hyperedges.py`, or cell by cell.

# %%
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch import nn

from hgraph import propagate, train
from hgraph.analysis import draw_hyperedges, record_hyperedges
from hgraph.nn import SoftHGNN, SoftHyperedges

OUT = Path("runs/tutorial-learned-hyperedges")
OUT.mkdir(parents=True, exist_ok=True)
STEPS = 60 if os.environ.get("HGRAPH_FAST") else 400

# %% [markdown]
# ## Nodes
#
# A flower, cut into 32 x 48 cells. A cell is a node with its color and position as features.

# %%
photo = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1).float() / 255
rows, columns = 32, 48
color = F.interpolate(photo[None], (rows, columns), mode="area")  # [1, 3, rows, columns]
y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
nodes = torch.cat([color, x[None, None], y[None, None]], 1).flatten(2).mT  # [1, N, 5]
print(f"{nodes.shape[1]} nodes")

# %% [markdown]
# ## Soft hyperedges
#
# `SoftHyperedges` computes M prototypes from the node features and compares the nodes with them. Every node belongs
# to every hyperedge with a differentiable weight. The operators are the same as for every other structure.

# %%
with train.seeded(0):
    made = SoftHyperedges(5, num_hyperedges=6, num_heads=1)(nodes)
print(made)
means = propagate(made.v2e, nodes)  # [1, 6, 5]: each hyperedge receives a weighted mean of the nodes
print("the weights of each hyperedge sum to", made.participation.sum(1).detach().numpy().round(3))

# %% [markdown]
# ## Reconstruction
#
# `SoftHGNN` aggregates nodes into hyperedges and hyperedges into nodes: `x + update`. This network uses only the
# update, so all information about a pixel's color comes through hyperedges. With `normalize="edge"` the weights of each
# node sum to 1 over the hyperedges; as published, the weights of each hyperedge sum to 1 over the nodes.


# %%
class Painter(nn.Module):
    def __init__(self, hyperedges: int):
        super().__init__()
        self.lift = nn.Linear(5, 32)
        self.block = SoftHGNN(32, hyperedges, dropout=0.0, normalize="edge")
        self.paint = nn.Linear(32, 3)

    def forward(self, nodes):
        h = self.lift(nodes)
        return self.paint(self.block(h) - h)


with train.seeded(0):
    painter = Painter(6)
optimizer = torch.optim.Adam(painter.parameters(), lr=1e-2)
wanted = color.flatten(2).mT
for step in range(STEPS):
    optimizer.zero_grad()
    loss = F.mse_loss(painter(nodes), wanted)
    loss.backward()
    optimizer.step()
    if step % (STEPS // 4) == 0 or step == STEPS - 1:
        print(f"step {step:3}: mean squared error {loss.item():.4f}")
print(f"one color for all would have {F.mse_loss(wanted.mean(1, keepdim=True).expand_as(wanted), wanted):.4f}")

# %% [markdown]
# ## Visualization
#
# Each panel shows the weight of a cell in a hyperedge as a multiple of the uniform weight. The title gives the fraction
# of cells that hold half of the weight: petals, their shadows, leaves and the dark background separate without any
# labels.

# %%
with record_hyperedges(painter) as found, torch.no_grad():
    painter(nodes)
figure = draw_hyperedges(found["block.edge_generator"], photo, grid=(rows, columns))
figure.savefig(OUT / "hyperedges.png", dpi=120)
print("written:", OUT / "hyperedges.png")

# %% [markdown]
# The same two calls work for any network with soft hyperedges, including `models.YOLOv13`:
# `record_hyperedges(net)` names its two branches `model.9.branch1...` and `model.9.branch2...`, and their grid is the
# image's sides divided by 16.
