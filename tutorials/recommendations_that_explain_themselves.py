# %% [markdown]
# # Recommendations that explain themselves
#
# A book shop knows who bought what, and a little about its books: genre and author. Both are triples, and triples make
# one graph: readers, books, genres and authors are its nodes. A model that passes messages along
# triples can show the paths from a reader to a book.
# Run it with `python tutorials/recommendations_that_explain_themselves.py`, or cell by cell.

# %%
import csv
import random
from pathlib import Path
from string import ascii_uppercase

from hgraph import datasets, models, train

OUT = Path("runs/tutorial-recommendations")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Two tables
#
# The example tables are synthetic. Every reader likes two authors, genres do not matter, and each reader has bought
# four of 200 books: too few to characterize a book by its readers.

# %%
draw = random.Random(0)
genres, authors = ["crime", "poetry", "space", "history", "travel"], [f"author {letter}" for letter in ascii_uppercase]
books = {f"book {i}": (draw.choice(genres), draw.choice(authors)) for i in range(200)}
with open(OUT / "triples.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["head", "relation", "tail"])
    for book, (genre, author) in books.items():
        rows.writerows([(book, "is", genre), (book, "by", author)])
with open(OUT / "interactions.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["user", "item"])
    for number in range(200):
        likes = draw.sample(authors, 2)
        liked = [book for book, (_, author) in books.items() if author in likes]
        rows.writerows([(f"reader {number}", book) for book in draw.sample(liked, 4)])

# %%
data = datasets.from_interactions(OUT, val=0.1, test=0.2)[0]
data

# %% [markdown]
# `data.collaborative()` is the graph for message passing: the training purchases and the triples, each with its
# inverse. It contains nothing that is held out.

# %%
kg = data.collaborative()
assert kg.find_triples("book 0", "by")
kg

# %% [markdown]
# ## With and without the triples
#
# Ranking by popularity is the simplest baseline. Matrix factorization uses only purchases. In KGAT every node
# aggregates its triples, weighted by attention; a second loss trains the embeddings on the triples.


# %%
def recall(score):
    return train.full_ranking(score, data.test, [data.train, data.val], ks=[20])["recall@20"]


def trained(model):
    train.fit_recommender(
        model, data, epochs=60, lr=0.01, l2=0.1, batch=150, eval_every=5, patience=None, progress=False
    )
    return train.scorer(model, train.structure_of(model, data))


sizes = data.num_users, data.num_items
with train.seeded(0):
    factors = models.BPRMF(*sizes, dim=32)
    kgat = models.KGAT(*sizes, data.kg.num_nodes, kg.num_relations, dim=32, relation_dim=32, layer_channels=(32, 16))
found = {"popularity": train.popularity_baseline(data.train), "BPR-MF": trained(factors), "KGAT": trained(kgat)}
found = {name: recall(score) for name, score in found.items()}
print("recall@20:", ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
assert found["KGAT"] > found["BPR-MF"] > found["popularity"]

# %% [markdown]
# ## Recommendations and their reasons
#
# An explanation is a path along triples from the reader to the book; its value is the product of the attention weights
# on the path. It shows possible messages and their weights; attention is only a part of the score.

# %%
structure = train.structure_of(kgat, data)
reader = data.user_names.find("reader 3")
found = train.recommend(kgat, data, [reader], k=3, structure=structure)
for item, score in zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True):
    print(f"{data.kg.node_names[item]} ({score:.2f})")
    print(train.explain(structure, reader, item, num_users=data.num_users, limit=3).text())

# %%
why = train.explain(structure, reader, int(found.items[0, 0]), num_users=data.num_users)
why.draw(title=f"why {data.kg.node_names[why.item]} for reader 3").figure.savefig(OUT / "why.png", bbox_inches="tight")

# %% [markdown]
# ## Queries
#
# The graph can also be queried without a model.

# %%
print([kg.tell(path) for path in kg.paths("reader 3", "crime", max_steps=2, limit=3)])
print(f"{len(kg.edges_of('by'))} triples of 'by'; {len(kg.neighbors('author A'))} books by author A")

# %% [markdown]
# The same on the command line:
#
# ```
# hgraph train runs/tutorial-recommendations --model kgat --out runs/shop
# hgraph recommend runs/shop --user "reader 3" --explain --draw why.png
# ```
