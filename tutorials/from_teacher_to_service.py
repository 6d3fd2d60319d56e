# %% [markdown]
# # From HGNN on co-citation Cora to a student served over HTTP
#
# The main workflow: train a network on the hypergraph, distill it into an MLP, deploy the MLP. Papers are
# nodes, and the references of each paper are a hyperedge. Run with `python tutorials/from_teacher_to_service.py`.

# %%
import os
import shutil
from pathlib import Path

import torch

from hgraph import datasets, errors
from hgraph.data import Data, Split
from hgraph.distill import Predictor, compare, export, lighthgnn, write_report
from hgraph.models import HGNN, MLP
from hgraph.train import seeded

OUT = Path("runs/tutorial-service")
OUT.mkdir(parents=True, exist_ok=True)
EPOCHS = 15 if os.environ.get("HGRAPH_FAST") == "1" else 200  # the tests run this page with fewer

# %% [markdown]
# ## The data
#
# Downloaded once, verified, and cached. Without a network connection, the digits data set is used instead. Many papers
# are in no hyperedge and would receive no messages: `with_singletons` adds a singleton hyperedge for each.

# %%
try:
    data = datasets.load("cocitation-cora")[0]
    isolated = int((data.structure.node_degree() == 0).sum())
    print(f"{isolated} of {data.num_nodes} papers are in no hyperedge")
    structure = data.structure.without_repeats().with_singletons()
    x = data.x / data.x.sum(1, keepdim=True).clamp_min(1)  # shares of words, whatever the length of the paper
    split = Split.per_class(structure, data.y, num_train_per_class=20, num_val_per_class=100, seed=0)
except errors.DataError as reason:
    print(f"co-citation Cora cannot be had ({str(reason).splitlines()[0]}); going on with the digits")
    data = datasets.load("digits")[0]
    structure, x, split = data.structure, data.x, data.split()
data = Data(structure, x, data.y, {"default": split}, data.meta).validate()
print(data)

# %% [markdown]
# ## Teacher and student
#
# LightHGNN's student learns from the teacher's soft labels on every node; it learns true labels only through the
# teacher. The third network is the same MLP trained on the true labels only: the baseline without a teacher.

# %%
with seeded(0):
    teacher = HGNN(data.num_features, 32, data.num_classes)
    alone, student = (MLP(data.num_features, 128, data.num_classes) for _ in range(2))
result = compare(teacher, alone, student, data, objective=lighthgnn(), seed=0, epochs=EPOCHS, progress=False)
for name, model in result.items():
    one = 1e3 * model.latency_one_s
    print(f"{name:8} test accuracy {model.test_accuracy:.3f}, ECE {model.ece:.3f}, one node in {one:.3f} ms")
names = {"mlp": "MLP", "teacher": "HGNN", "student": "student"}
networks = {"mlp": alone, "teacher": teacher, "student": student}
config = {"epochs": EPOCHS, "seed": 0}
print(write_report(OUT, result, networks, data, names=names, title="HGNN distilled into an MLP", config=config))

# %% [markdown]
# ## Export
#
# `export` folds the normalization into the weights, writes the class names, and compares every format with
# the network before the folder is created. The confidence of a student usually differs from its accuracy (the
# difference is the calibration error, ECE): dividing the logits by a temperature, fitted on the validation nodes,
# calibrates the probabilities.

# %%
folder = OUT / "student"
shutil.rmtree(folder, ignore_errors=True)
cool = result.student.temperature
print(f"ECE of the student at temperature {cool:.2f}: {result.student.calibrated_ece:.3f}")
named = {"class_names": data.meta.get("class_names"), "temperature": cool, "formats": ("layers", "torch")}
deviation = export(student, folder, data.x, **named)
print("largest deviation of the programs from the network:", deviation)
predictor = Predictor(folder)
print("the first test node:", predictor.answers(data.x[split.test[:1]]), "truth:", int(data.y[split.test[0]]))

# %% [markdown]
# ## Serve over HTTP
#
# `hgraph serve RUN` does this on localhost. Here the application is called without a socket, so the tutorial runs
# anywhere; it needs `hgraph[serve]`.

# %%
try:
    from fastapi.testclient import TestClient

    from hgraph.distill.serving.serve import application

    client = TestClient(application(predictor), base_url="http://localhost")
    row = dict(zip(predictor.columns, data.x[split.test[0]].tolist(), strict=True))
    print("answer:", client.post("/predict", json={"row": row}).json())
    wrong = client.post("/predict", json={"row": {"other": 1}})
    print("a row that cannot be read:", wrong.status_code, wrong.json()["detail"][:60], "...")
except (ImportError, errors.MissingPackageError, RuntimeError) as missing:
    print("left out:", missing)

# %% [markdown]
# The same from the command line:
#
# ```
# hgraph distill cocitation-cora --teacher hgnn --out runs/cora
# hgraph export runs/cora
# hgraph predict runs/cora rows.csv
# hgraph serve runs/cora
# ```

# %%
assert torch.equal(predictor.logits(data.x).argmax(1), student(data.x).argmax(1))
