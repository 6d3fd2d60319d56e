# %% [markdown]
# # Why this class?
#
# A network over a hypergraph predicts a class. Which hyperedges is the prediction based on? This tutorial builds data
# with a known cause, trains a network, and compares four methods that look for the cause. Then it uses real data.
# Run it with `python tutorials/why_this_class.py`; it takes about ten seconds and writes `why.png`.

# %%
import random

import torch
from torch.nn import functional as F

from hgraph import Hypergraph, datasets
from hgraph.analysis import counterfactual, draw_explanation, explain_node, fidelity
from hgraph.models import HGNNP, Stack
from hgraph.train import fit, seeded

# %% [markdown]
# ## A known cause
#
# Eighty people meet in seventy groups. Eight people have a cold; their second feature is 1. Everyone who was in a group
# with one of them is in class 1. So the cause of a prediction is known: the groups with a member who has a cold.

# %%
draw = random.Random(1)
groups = [sorted(draw.sample(range(80), draw.choice((3, 4)))) for _ in range(70)]
cold = set(draw.sample(range(80), 8))
causes = {v: {i for i, group in enumerate(groups) if v in group and cold & set(group) - {v}} for v in range(80)}
meetings = Hypergraph.from_lists(groups, num_nodes=80)
x = torch.ones(80, 2)
x[:, 1] = torch.tensor([float(v in cold) for v in range(80)])
y = torch.tensor([int(bool(causes[v])) for v in range(80)])

with seeded(1):
    model = Stack("UniGINConv", 2, 16, 2, dropout=0.0)
fit(model, (x, meetings), lambda out: F.cross_entropy(out, y), epochs=200, lr=0.02, progress=False)
predicted = model(x, meetings).argmax(1)
print(f"{float((predicted == y).float().mean()):.0%} of the people are classified correctly")

# %% [markdown]
# ## Four methods
#
# `explain_node` scores every hyperedge. For eight people in class 1, we count how many of the hyperedges with the best
# scores are causes. The gradient says how the output changes with a small change of a weight; integrated gradients
# average it while all weights grow from 0 to their values; masks are learned; removal recomputes the output without
# each hyperedge.

# %%
people = [v for v in range(80) if y[v] == 1 and predicted[v] == 1 and v not in cold][:8]
for method in ("gradient", "integrated", "mask", "removal"):
    right = 0.0
    for v in people:
        found = explain_node(model, x, meetings, v, method=method)
        right += len(set(found.top(len(causes[v])).tolist()) & causes[v]) / len(causes[v])
    print(f"{method:11} finds {right / len(people):.0%} of the causes")

# %% [markdown]
# ## How good is an explanation without a known cause?
#
# `fidelity` measures the probability of the class without the best parts, and with only these. Without the parts of a
# good explanation, the probability is much lower; with only these parts, it is about the same.

# %%
someone = people[0]
found = explain_node(model, x, meetings, someone)
print(
    {name: round(value, 3) for name, value in fidelity(model, x, meetings, found, top_k=len(causes[someone])).items()}
)
removed = counterfactual(model, x, meetings, someone)
print(f"without the hyperedges {None if removed is None else removed.tolist()}, person {someone} would be in class 0")

# %% [markdown]
# ## Real data
#
# Eighteen women and the fourteen events that they attended (Davis, Gardner and Gardner, 1941). Which events make a
# network put Brenda Rogers into the first group? On the command line, this is
# `hgraph explain runs/davis-hgnn+-0 --node "Brenda Rogers" --draw why.png`.

# %%
data = datasets.load("davis")[0]
names = list(data.meta["node_names"])
with seeded(0):
    women = HGNNP(data.num_features, 16, 2, dropout=0.0)
fit(women, data, epochs=200, lr=0.05, progress=False)
found = explain_node(women, data.x, data.structure, names.index("Brenda Rogers"), method="removal")
for event in found.top(3).tolist():
    print(data.meta["hyperedge_names"][event], round(float(found.scores[event]), 3))
ax = draw_explanation(data.structure, found, top_k=3, names=names, labels=data.y)
ax.figure.savefig("why.png")  # type: ignore[union-attr]
