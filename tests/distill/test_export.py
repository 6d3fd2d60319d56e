"""Exported students: every program against the student, and raw rows against features."""

from __future__ import annotations

import json
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from hgraph.datasets import Encoder
from hgraph.distill import Predictor, export
from hgraph.distill.serving.export import CARD
from hgraph.errors import ArgumentError, DataError
from hgraph.models import MLP
from hgraph.train import seeded

X = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
NAMES = ["ant", "bee", "cat"]


def trained(norm=True):
    with seeded(0):
        mlp = MLP(10, 16, 3, norm=norm)
        for _ in range(5):  # changes the running statistics of a new layer
            mlp(2 * X + 1)
        with torch.no_grad():
            for p in mlp.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return mlp.eval()


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        with seeded(1):
            self.a, self.b = nn.Linear(10, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x).tanh())


class RowSums(nn.Module):
    def forward(self, x):
        return x / x.sum(1, keepdim=True)


@pytest.mark.parametrize("norm", [True, False])
def test_folding_keeps_the_function(norm):
    mlp = trained(norm)
    before = {k: v.clone() for k, v in mlp.state_dict().items()}
    torch.testing.assert_close(mlp.double().folded()(X.double()), mlp(X.double()), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(v, mlp.float().state_dict()[k]) for k, v in before.items())


def test_layers_predict_like_the_student(tmp_path):
    deviations = export(trained(), tmp_path / "s", X, class_names=NAMES)
    assert set(deviations) == {"layers"}
    predictor = Predictor(tmp_path / "s")
    torch.testing.assert_close(predictor.logits(X), trained()(X).detach(), rtol=1e-4, atol=1e-4)
    answers, expected = predictor.answers(X), trained()(X).softmax(-1)
    assert [a.label for a in answers] == [NAMES[i] for i in expected.argmax(1).tolist()]
    assert answers[0].probability == pytest.approx(expected[0].max().item(), abs=1e-4)
    assert predictor.logits(X[:1]).shape == (1, 3)
    assert predictor.logits(X[:0]).shape == (0, 3)


def test_torch_programs_run_on_any_number_of_rows(tmp_path):
    export(Custom(), tmp_path / "s", X, formats=["torch"], preprocess=RowSums())
    program = torch.export.load(tmp_path / "s" / "student.pt2").module()
    for rows in (1, 3, 200):
        x = torch.rand(rows, 10)
        torch.testing.assert_close(program(x), Custom()(x / x.sum(1, keepdim=True)))
    with pytest.raises(ArgumentError, match="program"):
        Predictor(tmp_path / "s")  # loading one may execute code


@pytest.mark.parametrize("student", ["mlp", "custom"])
def test_onnx_programs_run_and_agree(tmp_path, student):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = trained() if student == "mlp" else Custom()
    deviations = export(network, tmp_path / "s", X, class_names=NAMES, formats=["onnx", "int8"])
    assert deviations["onnx"] < 1e-4
    expected = network(X).detach()
    for program, bound in (("onnx", 1e-4), ("int8", 0.05 * expected.abs().max().item())):
        predictor = Predictor(tmp_path / "s", program=program)
        for rows in (1, 64):
            assert (predictor.logits(X[:rows]) - expected[:rows]).abs().max() <= bound
    agree = (Predictor(tmp_path / "s", program="int8").logits(X).argmax(1) == expected.argmax(1)).float().mean()
    assert agree > 0.9
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "s").iterdir()}
    assert set(sizes) == {CARD, "student.onnx", "student.int8.onnx"}


def test_names_are_inside_the_programs(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    columns = [f"column {i}" for i in range(10)]
    given = {"class_names": NAMES, "feature_names": columns, "formats": ["torch", "onnx", "int8"]}
    export(trained(), tmp_path / "s", X, **given)
    found = {"features.json": "", "classes.json": ""}
    torch.export.load(tmp_path / "s" / "student.pt2", extra_files=found)
    assert (json.loads(found["features.json"]), json.loads(found["classes.json"])) == (columns, NAMES)
    for name in ("student.onnx", "student.int8.onnx"):
        inside = onnxruntime.InferenceSession(tmp_path / "s" / name).get_modelmeta().custom_metadata_map
        assert (json.loads(inside["features"]), json.loads(inside["classes"])) == (columns, NAMES)


@pytest.mark.parametrize("formats", [["layers", "torch"], ["onnx", "int8"]])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_programs_include_row_normalization_and_temperature(tmp_path, formats, temperature):
    if "onnx" in formats:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    with seeded(0):
        student = MLP(10, 16, 3, norm=False, unit_rows=True).eval()
    export(student, tmp_path / "s", X, temperature=temperature, formats=formats)
    expected = student(X).detach() / temperature
    for program in set(formats) & {"layers", "onnx"}:
        predictor = Predictor(tmp_path / "s", program=program)
        torch.testing.assert_close(predictor.logits(100 * X), expected, rtol=1e-4, atol=1e-5)
        assert predictor.logits(0 * X[:1]).isfinite().all()
    assert json.loads((tmp_path / "s" / CARD).read_text())["temperature"] == temperature


def test_temperature_for_any_student(tmp_path):
    with seeded(0):
        student = nn.Sequential(nn.Linear(10, 3), nn.Tanh())
    export(student, tmp_path / "s", X, temperature=4.0, formats=["torch"])
    program = torch.export.load(tmp_path / "s" / "student.pt2").module()
    torch.testing.assert_close(program(X), student(X) / 4)
    with pytest.raises(ArgumentError, match="temperature"):
        export(student, tmp_path / "t", X, temperature=0.0, formats=["torch"])


def test_programs_include_preprocessing(tmp_path):
    export(nn.Sequential(nn.Linear(10, 3)), tmp_path / "s", X, preprocess=nn.Linear(10, 10))
    assert len(Predictor(tmp_path / "s").classes) == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda: dict(formats=["tflite"]), "formats"),
        (lambda: dict(formats=[]), "formats"),
        (lambda: dict(class_names=["a", "b"]), "class_names"),
        (lambda: dict(class_names=["a", "b", "b"]), "class_names"),
        (lambda: dict(student=Custom()), "layers"),
        (lambda: dict(x=X[:1]), "2 rows"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(tmp_path, change, match):
    arguments = {"student": trained(), "folder": tmp_path / "s", "x": X} | change()
    with pytest.raises(ArgumentError, match=match):
        export(**arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ArgumentError, match="empty folder"):
        export(trained(), tmp_path, X)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(sys.modules["hgraph.distill.serving.export"], "_write_layers", fails)
    with pytest.raises(OSError, match="disk full"):
        export(trained(), tmp_path / "s", X)
    assert not list(tmp_path.iterdir())


def test_a_program_that_deviates_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hgraph.distill.serving.predictor.Layers.forward", lambda self, x: torch.zeros(len(x), 3))
    with pytest.raises(DataError, match="expected the exported"):
        export(trained(), tmp_path / "s", X)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("victim", ["student.safetensors", CARD])
def test_changed_files_are_refused(tmp_path, victim):
    export(trained(), tmp_path / "s", X)
    path = tmp_path / "s" / victim
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=victim):
        Predictor(tmp_path / "s")
    path.unlink()
    with pytest.raises(DataError, match=victim):
        Predictor(tmp_path / "s")


def write_rows(path, x, header=None):
    lines = [",".join(header or map(str, range(x.shape[1])))]
    lines += [",".join(f"{v:.9g}" for v in row) for row in x.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_of_rows_are_predicted_in_order_for_any_block_size(tmp_path):
    export(trained(), tmp_path / "s", X, class_names=NAMES)
    predictor = Predictor(tmp_path / "s")
    rows = write_rows(tmp_path / "rows.csv", X)
    for block in (1, 7, 1000):
        answers = [a for part in predictor.stream(rows, rows=block) for a in part]
        assert [a.label for a in answers] == [a.label for a in predictor.answers(X)]


def test_memory_does_not_grow_with_the_file(tmp_path):
    export(trained(), tmp_path / "s", X)
    predictor, peaks = Predictor(tmp_path / "s"), []
    for repeats in (5, 100):
        rows = write_rows(tmp_path / f"{repeats}.csv", X.repeat(repeats, 1))
        tracemalloc.start()
        count = sum(len(part) for part in predictor.stream(rows, rows=100))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == 64 * repeats
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0,1,2\n1,2,3\n", "column '3'"),
        (",".join(map(str, range(10))) + "\n1,2\n", ":2: expected 10 fields"),
        (",".join(map(str, range(10))) + "\n" + "1," * 9 + "x\n", "lines 2 to 2.*expected numbers"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, match):
    export(trained(), tmp_path / "s", X)
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=match):
        list(Predictor(tmp_path / "s").stream(path))


def test_missing_files_of_rows_are_named(tmp_path):
    export(trained(), tmp_path / "s", X)
    with pytest.raises(DataError, match="none.csv"):
        list(Predictor(tmp_path / "s").stream(tmp_path / "none.csv"))


def test_raw_columns_go_through_the_saved_encoder(tmp_path):
    tables = pytest.importorskip("hgraph.datasets.tables")
    table = {"age": [3, 9, 4, 7] * 5, "colour": ["red", "blue", "red", "green"] * 5}
    encoder = tables.Encoder.fit(table, {"age": "numeric", "colour": "categorical"})
    x = encoder.transform(table)
    with seeded(0):
        student = MLP(x.shape[1], 8, 2).eval()
    export(student, tmp_path / "s", x, class_names=["no", "yes"], encoder=encoder)
    predictor = Predictor(tmp_path / "s")
    assert predictor.columns == ("age", "colour")
    rows = tmp_path / "rows.csv"
    rows.write_text("colour,age,note\nblue,9,x\nunseen,,y\n")
    answers = next(predictor.stream(rows))
    expected = student(encoder.transform({"age": ["9", ""], "colour": ["blue", "unseen"]})).softmax(-1)
    assert [a.probability for a in answers] == pytest.approx(expected.max(1).values.tolist(), abs=1e-5)


def test_an_open_quote_in_a_file_of_rows_is_an_error(tmp_path):
    export(trained(), tmp_path / "s", X)
    rows = ["1,2,3,4,5,6,7,8,9,10"] * 4
    rows[2] = '1,2,3,4,5,6,7,8,9,"10'  # the last two rows would be one row
    (tmp_path / "rows.csv").write_text("\n".join([",".join(str(i) for i in range(10)), *rows, ""]))
    with pytest.raises(DataError, match=r"rows.csv:4: not CSV"):
        list(Predictor(tmp_path / "s").stream(tmp_path / "rows.csv"))


def test_the_card_lists_the_content(tmp_path):
    export(trained(), tmp_path / "s", X, class_names=np.array(NAMES))
    card = json.loads((tmp_path / "s" / CARD).read_text())
    assert card["classes"] == NAMES
    assert card["features"] == [str(i) for i in range(10)]
    assert card["programs"] == {"layers": "student.safetensors"}


@pytest.mark.checked("new rows", "If loading divides counts by their row sum, so does the exported student.")
def test_an_exported_student_normalizes_counts_like_loading(tmp_path):
    from hgraph.nn.rows import UnitSums

    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 4, (30, 5), generator=generator).float()
    counts[0] = 0
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1e-30)
    student = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    export(student, tmp_path / "s", shares, preprocess=UnitSums())
    predictor = Predictor(tmp_path / "s")
    expected = student(shares)
    for rows in (counts, 7 * counts, shares):
        torch.testing.assert_close(predictor.logits(rows), expected, atol=1e-6, rtol=0)


# ---------------------------------------------------------------------- categories without a feature


def with_categories(folder, words):
    tables = pytest.importorskip("hgraph.datasets.tables")
    encoder = tables.Encoder.fit({"color": words}, {"color": "categorical"})
    x = encoder.transform({"color": words[:4]})
    export(nn.Linear(x.shape[1], 2), folder / "s", x, encoder=encoder)
    return Predictor(folder / "s")


def test_unknown_categories_are_counted_once_by_any_number_of_threads(tmp_path):
    predictor = with_categories(tmp_path, ["red", "blue"] * 2)
    rows = {"color": ["red", "gold", "jade", "gold"]}
    x, unseen = predictor.encode(rows)
    assert (x.shape, unseen, predictor.unseen) == ((4, 2), {"color": {"gold": 2, "jade": 1}}, {})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: predictor.features(rows), range(200)))
    assert predictor.unseen == {"color": {"gold": 400, "jade": 200}}


@pytest.mark.parametrize(("number", "said"), [(10, False), (1001, True)])
def test_a_rare_category_of_training_is_not_called_unseen(number, said, tmp_path):
    words = [f"c{i}" for i in range(number)] + [f"c{i}" for i in range(number - 1)]  # the last of them is the rarest
    predictor = with_categories(tmp_path, words)
    rare = predictor.encode({"color": [f"c{number - 1}"]})[1]
    assert rare == ({"color": {f"c{number - 1}": 1}} if said else {})
    sentence = predictor.encoder.describe_unknown("color")
    assert ("or not among its 1,000 most frequent categories" in sentence) == said


def test_numbers_of_a_request_are_numbers_whatever_the_decimal_sign(tmp_path):
    encoder = Encoder.fit({"size": ["1,5", "2,5"]}, {"size": "numeric"}, decimal=",")
    x = encoder.transform({"size": ["1,5", "2,5"]})
    export(nn.Linear(1, 2), tmp_path / "s", x, encoder=encoder)
    found, unseen = Predictor(tmp_path / "s").encode({"size": [30.5, "30,5", 1.234, "1,234", 7]})
    assert found.flatten().tolist() == pytest.approx([57, 57, -1.532, -1.532, 10])  # mean 2, deviation 0.5
    assert unseen == {}
