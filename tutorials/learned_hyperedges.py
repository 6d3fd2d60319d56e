# %% [markdown]
# # Learned hyperedges
#
# A hypergraph need not be given. Here a network makes one of a photograph: it learns which pixels belong together,
# because it has to paint the photograph again through six hyperedges alone. Run with
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
# ## Vertices
#
# A flower, cut into 32 x 48 cells. A cell is a vertex that knows its colour and its place.

# %%
photo = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1).float() / 255
rows, columns = 32, 48
colour = F.interpolate(photo[None], (rows, columns), mode="area")  # [1, 3, rows, columns]
y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
vertices = torch.cat([colour, x[None, None], y[None, None]], 1).flatten(2).mT  # [1, N, 5]
print(f"{vertices.shape[1]} vertices")

# %% [markdown]
# ## Hyperedges made of them
#
# `SoftHyperedges` makes M prototypes of what the vertices hold and asks who is like them. Every vertex takes part in
# every hyperedge by some amount, and the amounts are differentiable. The verbs are those of every other structure.

# %%
with train.seeded(0):
    made = SoftHyperedges(5, num_hyperedges=6, num_heads=1)(vertices)
print(made)
means = propagate(made.v2e, vertices)  # [1, 6, 5]: each hyperedge hears a weighted mean of the vertices
print("the weights of each hyperedge sum to", made.participation.sum(1).detach().numpy().round(3))

# %% [markdown]
# ## A painter
#
# `SoftHGNN` gathers vertices into hyperedges and spreads those back: `x + update`. This painter sees the update alone,
# so all it knows of a pixel's colour came through a hyperedge. With `normalize="edge"` each vertex divides itself among
# the hyperedges; as published, each hyperedge divides itself among the vertices.


# %%
class Painter(nn.Module):
    def __init__(self, hyperedges: int):
        super().__init__()
        self.lift = nn.Linear(5, 32)
        self.block = SoftHGNN(32, hyperedges, dropout=0.0, normalize="edge")
        self.paint = nn.Linear(32, 3)

    def forward(self, vertices):
        h = self.lift(vertices)
        return self.paint(self.block(h) - h)


with train.seeded(0):
    painter = Painter(6)
optimizer = torch.optim.Adam(painter.parameters(), lr=1e-2)
wanted = colour.flatten(2).mT
for step in range(STEPS):
    optimizer.zero_grad()
    loss = F.mse_loss(painter(vertices), wanted)
    loss.backward()
    optimizer.step()
    if step % (STEPS // 4) == 0 or step == STEPS - 1:
        print(f"step {step:3}: mean squared error {loss.item():.4f}")
print(f"one colour for all would have {F.mse_loss(wanted.mean(1, keepdim=True).expand_as(wanted), wanted):.4f}")

# %% [markdown]
# ## Looking at them
#
# Each panel shows how many times the uniform share a cell has in a hyperedge. The title says how few cells hold half of
# it: petals, their shadows, leaves and the dark between them fall apart, and nobody told the network that there is a
# flower.

# %%
with record_hyperedges(painter) as found, torch.no_grad():
    painter(vertices)
figure = draw_hyperedges(found["block.edge_generator"], photo, grid=(rows, columns))
figure.savefig(OUT / "hyperedges.png", dpi=120)
print("written:", OUT / "hyperedges.png")

# %% [markdown]
# The same two calls show what any network with soft hyperedges has made, `models.YOLOv13` among them:
# `record_hyperedges(net)` names its two branches `model.9.branch1...` and `model.9.branch2...`, and their grid is the
# image's sides divided by 16.
