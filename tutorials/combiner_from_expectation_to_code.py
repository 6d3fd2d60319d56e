# %% [markdown]
# # Combiner: from conditional expectation to code
#
# In full attention every token attends to every token, at cost N x N. Combiner (Ren et al., NeurIPS 2021) has the
# full support at a cost of about N times the square root of N: it attends to some tokens directly and to all others
# through summaries of regions. This tutorial derives it in four steps of a few lines each.
# Run it with `python tutorials/combiner_from_expectation_to_code.py`, or cell by cell.

# %%
import math
import os
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from hgraph import attend, merge, nn, patterns
from hgraph.nn.attention import CombinerState, combiner_attention
from hgraph.patterns import partitions

OUT = Path("runs/tutorial")
OUT.mkdir(parents=True, exist_ok=True)
FAST = os.environ.get("HGRAPH_FAST") == "1"  # the tests run this page with fewer steps
torch.manual_seed(0)

# %% [markdown]
# ## 1. Attention is an expectation
#
# The output of token i is the mean of the values under a distribution over tokens j:
# p(j | i) = exp(q_i k_j / sqrt D) / Z_i.

# %%
N, D, SPAN = 16, 4, 4
q, k, v = (torch.randn(N, D, dtype=torch.float64) for _ in range(3))
score = (q @ k.T) / math.sqrt(D)
p = score.softmax(1)
expected = p @ v

# %% [markdown]
# ## 2. The same expectation, region by region
#
# Cut the tokens into regions. By the rule of total expectation, first draw a region, then a token in it:
# p(j | i) = p(region | i) p(j | region, i). This is still exact, and no cheaper.

# %%
regions = torch.arange(N).view(-1, SPAN)  # four regions of four tokens
to_region = torch.stack([p[:, r].sum(1) for r in regions], 1)
inside = [p[:, r] / p[:, r].sum(1, keepdim=True) for r in regions]
again = sum(to_region[:, [g]] * (inside[g] @ v[r]) for g, r in enumerate(regions))
print("total expectation, largest difference:", float((again - expected).abs().max()))

# %% [markdown]
# ## 3. One assumption
#
# p(j | region, i) is what costs N x N: a distribution within each region for each receiver. Combiner uses the same one
# for all receivers, p(j | region), with the region's own query; and gives the region a key, so p(region | i) is
# one score. Query and key are the elementwise maxima over the region: no new parameters. Tokens of a token's own region
# are still attended to directly, and both kinds of scores are in one softmax. Written out, for token i:


# %%
def by_hand(i: int) -> torch.Tensor:
    own = i // SPAN
    logits, values = [score[i, j] for j in regions[own]], [v[j] for j in regions[own]]
    for g, r in enumerate(regions):
        if g != own:
            query, key = q[r].amax(0), k[r].amax(0)
            share = (k[r] @ query / math.sqrt(D)).softmax(0)  # p(j | region)
            logits.append(q[i] @ key / math.sqrt(D))
            values.append(share @ v[r])
    return torch.stack(logits).softmax(0) @ torch.stack(values)


combined = torch.stack([by_hand(i) for i in range(N)])

# %% [markdown]
# ## 4. As message passing
#
# Regions are hyperedges. Messages go from tokens to regions, and from regions to receivers, in addition to the
# direct ones. A `Partition` stores both, and can prove that every pair of tokens is covered exactly once.

# %%
plan = partitions.fixed(N, SPAN, causal=False)
plan.validate(patterns.full(N))
(family,) = plan.regions
print(plan, family.hypergraph())

heads = [x.unsqueeze(1) for x in (q, k, v)]  # [N, 1 head, D]
region_q, region_k = (x.view(-1, SPAN, 1, D).amax(1) for x in heads[:2])
up = attend(family.members, region_q, *heads[1:])  # tokens -> regions
near = attend(plan.direct[0], *heads)  # tokens -> tokens
far = attend(family.attended, heads[0], region_k, up.out)  # regions -> tokens
out = merge(near, far).out  # one softmax over both
print("two messages and a merge:", float((out.squeeze(1) - combined).abs().max()))
print("combiner_attention:", float((combiner_attention(plan, *heads).out.squeeze(1) - combined).abs().max()))

# %% [markdown]
# ## Partitions
#
# Any exact partition will do. For each receiver (a row), direct edges are black; every other color is a
# summarized region.

# %%
n, side = 64, 8
plans = {
    "fixed": partitions.fixed(n, side),
    "logsparse": partitions.logsparse(n),
    "vertical": partitions.vertical(n, side),
    "horizontal": partitions.horizontal(n, side),
    "row_major": partitions.row_major(n, side),
    "clusters": partitions.clusters(torch.randint(side, (n,))),
}
figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
for ax, (name, made) in zip(axes.flat, plans.items(), strict=True):
    made.validate(patterns.causal(n))
    picture = torch.full((n, n), math.nan)
    for graph in made.direct:
        adj = graph.adjacency()
        picture[adj.target.long(), adj.indices.long()] = -1
    for f in made.regions:
        members, adj = f.members.adjacency().dense().bool(), f.attended.adjacency()
        for t, r in zip(adj.target.tolist(), adj.indices.tolist(), strict=True):
            picture[t, members[r]] = r * 7 % 19 + 1
    colors = plt.get_cmap("tab20").copy()
    colors.set_under("black")
    ax.imshow(picture, cmap=colors, vmin=0, vmax=20, interpolation="nearest")
    ax.set_title(f"{name}: {made.num_edges} edges", fontsize=10, loc="left")
figure.suptitle(f"{n} tokens, {n * (n + 1) // 2} causal pairs, each reached exactly once")
figure.savefig(OUT / "combiner_plans.png", dpi=110)

# %% [markdown]
# ## What it costs
#
# Edges of the softmax and edges from tokens to regions, compared with all pairs. A partition is stored as runs of
# tokens, so sixty thousand tokens are cheap.

# %%
lengths = [4**e for e in range(4, 7 if FAST else 9)]
costs: dict[str, list[int]] = {"all pairs": [m * (m + 1) // 2 for m in lengths]}
for name in ("fixed", "vertical", "logsparse"):
    make = partitions.logsparse if name == "logsparse" else getattr(partitions, name)
    made_all = [make(m) if name == "logsparse" else make(m, math.isqrt(m)) for m in lengths]
    costs[name] = [made.num_edges + made.num_members for made in made_all]
figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for name, edges in costs.items():
    power = math.log(edges[-1] / edges[-2]) / math.log(lengths[-1] / lengths[-2])
    ax.loglog(lengths, edges, marker="o", label=f"{name}: N^{power:.2f}")
ax.set(xlabel="tokens", ylabel="edges")
ax.set_xticks(lengths, [f"{m:,}" for m in lengths])
ax.minorticks_off()
ax.legend()
figure.savefig(OUT / "combiner_edges.png", dpi=110)

# %% [markdown]
# ## One layer covers everything
#
# A marker is somewhere in noise, or absent. The last token must predict which, after one layer. Attention within
# segments cannot solve this; with regions the same layer can.


# %%
def sequences(count: int, words: int = 8, length: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, label = torch.randint(1, words, (count, length)), torch.randint(2, (count,))
    place = torch.randint(length - 8, (count,))  # never in the last segment
    tokens[torch.arange(count)[label == 1], place[label == 1]] = 0
    return tokens, label


class Detector(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.embed, self.layer, self.read = torch.nn.Embedding(8, 32), layer, torch.nn.Linear(32, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.read((x + self.layer(x))[:, -1])


def trained(layer: torch.nn.Module, steps: int) -> tuple[Detector, list[float]]:
    model, right = Detector(layer), []
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        tokens, label = sequences(128)
        answer = model(tokens)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(answer, label).backward()
        optimizer.step()
        if step % 10 == 0:
            right.append(float((answer.argmax(1) == label).float().mean()))
    return model, right


steps = 20 if FAST else 300
model, right = trained(nn.CombinerAttention(32, 2, block_size=8), steps)
local = nn.SelfAttention(32, 2, pattern=lambda n: patterns.block_local(n, 8), causal=True)
_, alone = trained(local, steps)
tokens, label = sequences(2000)
print(f"with regions: {float((model(tokens).argmax(1) == label).float().mean()):.0%} right")

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, curve in (("Combiner, fixed", right), ("its segments alone", alone)):
    ax.plot(range(0, steps, 10), curve, label=name)
ax.set(xlabel="step", ylabel="right", ylim=(0.4, 1.02))
ax.legend()
figure.savefig(OUT / "combiner_marker.png", dpi=110)

# %% [markdown]
# The effective attention matrix is dense below the diagonal. Outside the segments it is a column times a row, of rank
# one: this is the assumption of step 3.

# %%
tokens, label = sequences(64)
one = tokens[label == 1][:1]
a = model.layer.attention_matrix(model.embed(one))[0, 0].detach()
print("shares of each token add up to", float(a.sum(1).min()), "..", float(a.sum(1).max()))
print("rank of the last segment's block over the first:", int(torch.linalg.matrix_rank(a[56:, :8], rtol=1e-4)))
figure, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
shown = ax.imshow(a.clamp(min=1e-4).log10().masked_fill(a == 0, math.nan), cmap="viridis")
ax.axvline(int((one[0] == 0).nonzero()[0, 0]), color="red", linewidth=0.6)
ax.set(title="log10 of the shares; red: the marker", xlabel="source", ylabel="target")
figure.colorbar(shown)
figure.savefig(OUT / "combiner_matrix.png", dpi=110)

# %% [markdown]
# ## Decoding
#
# A region is summarized when its last token arrives, and then its tokens are dropped: the state has one segment of
# tokens, and one key and value for each earlier segment.

# %%
x, state = model.embed(one).detach()[:, :60], CombinerState(64)
layer = model.layer.eval()
with torch.no_grad():
    decoded = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(60)], 1)
    print("decoded, largest difference:", float((decoded - layer(x)).abs().max()))
print("after 60 tokens it holds (tokens, regions):", state.num_cached)
