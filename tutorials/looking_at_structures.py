# %% [markdown]
# # Looking at structures
#
# How to build hypergraphs, draw them, measure them before training, and hold out a part of them
# without leaks. Run with `python tutorials/looking_at_structures.py`, or cell by cell.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from hgraph import HyperedgeSplit, LinkSplit, builders, datasets
from hgraph.structure import statistics

OUT = Path("runs/tutorial-structures")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Drawing
#
# Southern women and the parties they attended (Davis, 1941): each party is a hyperedge, drawn as a hull. The graph next
# to it joins women who met; thicker lines mean more meetings.

# %%
davis = datasets.load("davis")[0]
names = davis.meta["node_names"]
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained")
davis.structure.draw(left, names=names, max_hyperedges=5, seed=0)
left.set_title("the first five of 14 parties")
davis.structure.clique().draw(right, names=names, seed=0)
right.set_title("who met whom")
figure.savefig(OUT / "davis.png", dpi=120)

# %% [markdown]
# ## One set of points, three hypergraphs
#
# A structure is a modeling choice. The same 90 points give one hyperedge per point with its nearest neighbors, one per
# point with all points within a radius, or one per cluster.

# %%
generator = torch.Generator().manual_seed(0)
centers = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]]).repeat_interleave(30, dim=0)
points = centers + 0.7 * torch.randn(90, 2, generator=generator)
label = torch.arange(3).repeat_interleave(30)
made = {
    "4 nearest": builders.knn_hypergraph(points, 4),
    "within 0.5": builders.radius_hypergraph(points, 0.5),
    "3 clusters": builders.kmeans_hypergraph(points, 3),
}
for name, hypergraph in made.items():
    found = statistics(hypergraph, label)
    sizes = hypergraph.hyperedge_degree()
    print(f"{name:10} {hypergraph}, sizes {int(sizes.min())} .. {int(sizes.max())}, homophily {found.homophily:.2f}")

# %% [markdown]
# `hgraph.builders` has more: categories of a table, memberships, terms of texts, neighborhoods, cliques, communities
# of a graph, time-stamped simplices, patches and superpixels of an image, and random ones to compare with.
#
# ## Compare with a random hypergraph
#
# Compare with a random hypergraph of the same degrees. If yours looks the same, its structure carries no information.

# %%
real = made["4 nearest"]
null = builders.chung_lu_hypergraph(real.node_degree().float(), real.hyperedge_degree().float(), seed=0)
for name, hypergraph in (("real", real), ("null", null)):
    found = statistics(hypergraph, label)
    print(f"{name}: homophily {found.homophily:.2f} (at random {found.chance:.2f})")
statistics(real, label).draw("4 nearest neighbors").savefig(OUT / "degrees.png", dpi=120)

# %% [markdown]
# ## Superpixels
#
# An image of a disc before two colors, and noise. Each superpixel is a hyperedge over pixels and follows the borders;
# white lines separate them.

# %%
image = 0.05 * torch.rand(3, 32, 48, generator=generator)
row, column = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
image[0, column > 16 + row // 2] += 0.5
image[1, (row - 15) ** 2 + (column - 26) ** 2 < 110] += 0.7
segments = builders.superpixel_hypergraph(image, 40)
mean, owner = torch.zeros(32 * 48, 3), torch.zeros(32 * 48)
for number, members in enumerate(segments.to_lists()):
    mean[members] = image.reshape(3, -1).T[members].mean(0)
    owner[members] = number
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, picture, title in zip(
    axes,
    (image.permute(1, 2, 0), mean.view(32, 48, 3)),
    ("image", f"{segments.num_hyperedges} superpixels"),
    strict=True,
):
    ax.imshow(picture.clamp(0, 1))
    ax.set_title(title)
    ax.set_axis_off()
for number in range(segments.num_hyperedges):
    axes[1].contour(owner.view(32, 48) == number, levels=[0.5], colors="white", linewidths=1)
figure.savefig(OUT / "superpixels.png", dpi=120)

# %% [markdown]
# ## Hold out links and hyperedges
#
# To predict links or hyperedges, some are held out. Both directions of a link and all copies of a hyperedge must go,
# or the training structure reveals them. `validate` proves it.

# %%
karate = datasets.load("karate")[0].structure
links = LinkSplit.random(karate, val_fraction=0.1, test_fraction=0.2, seed=0)
links.validate(karate)
print(links, "training sees", links.structure)
parties = HyperedgeSplit.random(davis.structure, val_fraction=0.1, test_fraction=0.2, seed=0)
parties.validate(davis.structure)
print(parties, "negatives of the test:", parties.test_negatives.to_lists())
