# %% [markdown]
# # From your own CSV files to a trained network
#
# Two tables: the readers of a library, and who read what. The question: which genre does a reader like, poetry or
# crime? Attributes of a reader (age, town) say little. Readers of the same books say nearly everything, and
# that is a hypergraph: readers are nodes, and each book is a hyperedge of its readers.
# Run it with `python tutorials/your_own_tables.py`, or cell by cell in an editor that knows `# %%`.

# %%
import csv
import random
from pathlib import Path

import torch

from hgraph import datasets, structure, train
from hgraph.models import HGNNP, MLP

OUT = Path("runs/tutorial-tables")
OUT.mkdir(parents=True, exist_ok=True)
EPOCHS = 200

# %% [markdown]
# ## The tables
#
# The example tables are synthetic, with typical problems: missing ages, a reader without books, and
# two readers without a known genre. Every reader has read five books, mostly of the genre they like.

# %%
draw = random.Random(0)
genre = ["poetry" if draw.random() < 0.5 else "crime" for _ in range(300)]
with open(OUT / "readers.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["reader", "age", "town", "joined", "genre"])
    for i, likes in enumerate(genre):
        age = "" if draw.random() < 0.1 else draw.randint(18, 90)
        known = "" if i in (17, 99) else likes
        rows.writerow(
            [f"r{i:03d}", age, draw.choice(["Ulm", "Bonn", "Jena"]), f"20{draw.randint(10, 24)}-05-01", known]
        )
with open(OUT / "loans.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["reader", "book"])
    shelf = {"poetry": range(0, 30), "crime": range(30, 60)}
    other = {"poetry": "crime", "crime": "poetry"}
    for i, likes in enumerate(genre[:-1]):  # the last reader has read nothing
        lent = {draw.choice(shelf[likes if draw.random() < 0.9 else other[likes]]) for _ in range(5)}
        rows.writerows([f"r{i:03d}", f"b{book:02d}"] for book in sorted(lent))

# %% [markdown]
# ## One call
#
# `from_tables` reads CSV, Parquet, HIF, data frames and dicts. Columns are assigned to roles; the types of the
# others are inferred (numbers, categories, dates, text), missing cells get an indicator column, and the encoder is
# fitted on training rows only. Errors in cells name the file, line and column.

# %%
dataset = datasets.from_tables(
    OUT / "readers.csv",
    hyperedges=OUT / "loans.csv",
    label="genre",
    columns={"id": "reader", "node": "reader", "hyperedge": "book"},
    seed=0,
    name="library",
)
data = dataset[0]
print(data)
print("features:", ", ".join(data.meta["feature_names"]))
print("classes:", data.meta["class_names"], "and", int((data.y < 0).sum()), "readers without a known one")
print(data.split())

# %% [markdown]
# Is the structure informative? Homophily is the fraction of pairs of readers with a common book
# who like the same genre; for random labels it is one half.

# %%
found = structure.statistics(data.structure, data.y)
print(f"homophily {found.homophily:.2f}, at random {found.chance:.2f};", found.counts)
found.draw("library").savefig(OUT / "library.png", dpi=120)

# %% [markdown]
# ## A network that uses the structure, and one that does not

# %%
split = data.split()


def loss(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits[split.train], data.y[split.train])


def validate(logits: torch.Tensor) -> float:
    return train.accuracy(logits[split.val], data.y[split.val])


accuracy = {}
for name, network, inputs in (
    ("MLP", MLP, (data.x,)),
    ("HGNN+", HGNNP, (data.x, split.structure)),  # split.structure is what training may see
):
    with train.seeded(0):
        model = network(data.num_features, 32, data.num_classes)
    fitted = train.fit(model, inputs, loss, validate=validate, epochs=EPOCHS, progress=False)
    with torch.no_grad():
        accuracy[name] = train.accuracy(model(*inputs)[split.test], data.y[split.test])
    print(f"{name:6} test accuracy {accuracy[name]:.2f}, best epoch {fitted.best_epoch}")

# %%
assert accuracy["HGNN+"] > accuracy["MLP"]

# %% [markdown]
# ## Save it, and do the same on the command line
#
# A data set is saved as a folder of safetensors and JSON, checked when it is read; every command takes its path.

# %%
datasets.save(dataset, OUT / "library", force=True)
print(datasets.load(OUT / "library"))

# %% [markdown]
# ```
# hgraph datasets build --nodes readers.csv --hyperedges loans.csv --label genre \
#     --column id=reader --column node=reader --column hyperedge=book --out library
# hgraph datasets info library
# hgraph train library --model hgnn+
# hgraph distill library --teacher hgnn+ --out runs/library
# ```
#
# The last command distills the network into an MLP; `hgraph export` and `hgraph serve` deploy it.
