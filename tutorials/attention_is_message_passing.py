# %% [markdown]
# # Attention is message passing
#
# Tokens are nodes, an attention pattern is an edge set, and the softmax of a head weights the messages. So `attend`
# computes both graph attention and sparse transformers, and properties of patterns are properties of graphs.
# Run it with `python tutorials/attention_is_message_passing.py`, or cell by cell in an editor that knows `# %%`.

# %%
import functools
import os
from pathlib import Path

import torch

from hgraph import analysis, attend, merge, nn, patterns

OUT = Path("runs/tutorial")
OUT.mkdir(parents=True, exist_ok=True)
STEPS = 10 if os.environ.get("HGRAPH_FAST") == "1" else 600  # the tests run this page with fewer steps
torch.manual_seed(0)

# %% [markdown]
# ## Patterns are graphs
#
# `hgraph.patterns` makes token graphs, and `| & - @` combine them. They are stored as runs of consecutive tokens,
# never as a matrix, so a window over a million tokens is cheap.

# %%
n = 64
longformer = patterns.sliding_window(n, 5) | patterns.global_tokens(n, [0])
documents = patterns.causal(n) & patterns.packed([20, 44])
print(longformer, f"density {longformer.density:.2f}")
print(documents, "causal:", documents.is_causal)
print(patterns.sliding_window(1_000_000, 256, causal=True))
longformer.draw(title="a window and a global token").figure.savefig(OUT / "longformer.png", dpi=120)

# %% [markdown]
# ## Attention over a pattern
#
# It computes dense tiles where the graph has edges; the exact edges, as an `Adjacency`, give the same numbers.

# %%
q, k, v = (torch.randn(n, 2, 8) for _ in range(3))  # N tokens, 2 heads of 8 features
tiled = attend(longformer, q, k, v)
exact = attend(longformer.adjacency(), q, k, v)
print("largest difference:", float((tiled.out - exact.out).abs().max()))

# %% [markdown]
# Attention over disjoint edge sets can be computed separately; `merge` combines the results into one softmax.

# %%
near = patterns.sliding_window(n, 5)
parts = merge(attend(near, q, k, v), attend(longformer - near, q, k, v))
print("in two parts:", float((parts.out - tiled.out).abs().max()))

# %% [markdown]
# ## Receptive fields
#
# Layers are hops. Edges at distances of powers of two (PowerAttention) reach every distance in as many layers as its
# binary form has ones; a window with as many edges needs many more layers.

# %%
power = patterns.power(256)
window = patterns.sliding_window(256, 9, causal=True)
print("layers   power  window")
fields = zip(*(analysis.receptive_fields([graph] * 8) for graph in (power, window)), strict=True)
for layers, reached in enumerate(fields, 1):
    print(f"{layers:6}" + "".join(f"{int(field.degree()[0, 0, -1]):8}" for field in reached))
print("distance 31 = 11111 in binary takes", int(patterns.power(32).first_hop(31)[0]), "hops")
patterns.power(32).draw(kind="layers", layers=3).figure.savefig(OUT / "power_layers.png", dpi=120)

# %% [markdown]
# On a grid, one layer along the rows and one along the columns connect every pair of cells:

# %%
fields = analysis.receptive_fields([patterns.axial((8, 8), 1), patterns.axial((8, 8), 0)])
print("share of pairs after each axial layer:", [field.density for field in fields])

# %% [markdown]
# ## Train a layer and inspect it
#
# The task: predict the token seven positions back. A causal window of eight tokens has that edge. After training, the
# recorded attention weights show which edges are used.

# %%
DISTANCE, WORDS, LENGTH = 7, 8, 32
model = torch.nn.ModuleDict(
    {
        "embed": torch.nn.Embedding(WORDS, 32),
        "attend": nn.SelfAttention(
            32, 2, pattern=functools.partial(patterns.sliding_window, window=8), causal=True, rotary=100.0
        ),
        "read": torch.nn.Linear(32, WORDS),
    }
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


def answer(tokens: torch.Tensor) -> torch.Tensor:
    return model["read"](model["attend"](model["embed"](tokens)))


for _ in range(STEPS):
    tokens = torch.randint(WORDS, (16, LENGTH))
    loss = torch.nn.functional.cross_entropy(
        answer(tokens)[:, DISTANCE:].flatten(0, 1), tokens[:, :-DISTANCE].flatten()
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

tokens = torch.randint(WORDS, (8, LENGTH))
with nn.record_attention(model) as records, torch.no_grad():
    right = (answer(tokens)[:, DISTANCE:].argmax(-1) == tokens[:, :-DISTANCE]).float().mean()
print(f"right: {float(right):.0%}")

# %%
asked = patterns.sliding_window(LENGTH, 8, causal=True) - patterns.sliding_window(LENGTH, 7, causal=True)
types = {"seven back": asked, "nearer": patterns.sliding_window(LENGTH, 7, causal=True)}
masses = analysis.mass_by_type(records["attend"][0], types)
print({name: [round(float(m), 2) for m in mass] for name, mass in masses.items()})
analysis.draw_mass_by_type(masses).figure.savefig(OUT / "mass.png", dpi=120)

# %% [markdown]
# ## Decoding
#
# An explicit state stores the keys and values so far; a step uses only the edges of its own token.

# %%
layer = model["attend"].eval()
x = model["embed"](tokens[:1]).detach()
state = nn.attention.KVState(LENGTH)
steps = torch.cat([layer(x[:, t : t + 1], state=state) for t in range(LENGTH)], 1)
print("decoded, largest difference:", float((steps - layer(x)).abs().max().detach()))
