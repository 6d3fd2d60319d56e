"""Numbers with units and separators become features; ambiguous columns are refused."""

from __future__ import annotations

import pytest
import torch

from hgraph.datasets import Encoder, from_tables
from hgraph.errors import DataError

# cells, decimal -> numbers
READ = {
    "percent": (["12%", "7 %", "-3.5%"], None, [12, 7, -3.5]),
    "dollars": (["$12", "$1.50", "-$3"], None, [12, 1.5, -3]),
    "euros at the end": (["12\u20ac", "1.50 \u20ac", "3\u20ac"], None, [12, 1.5, 3]),
    "kilograms": (["3.5 kg", "4kg", "0.1 kg"], None, [3.5, 4, 0.1]),
    "words": (["3 bags", "4 bags", "12 bags"], None, [3, 4, 12]),
    "spaces between thousands": (["1 234", "12 000", "7"], None, [1234, 12000, 7]),
    "thousands": (["1,234", "12,000.5", "7"], ".", [1234, 12000.5, 7]),
    "dollars and thousands": (["$1,234", "$2", "$3"], ".", [1234, 2, 3]),
    "decimal comma": (["1,5", "2", "1.234,5"], ",", [1.5, 2, 1234.5]),
    "decimal comma and percent": (["1,5 %", "2%", "3,25%"], ",", [1.5, 2, 3.25]),
    "minus sign": (["\u22123 kg", "4 kg", "5 kg"], None, [-3, 4, 5]),
    "exponent": (["1e3 m", "2e-1 m", "5 m"], None, [1000, 0.2, 5]),
}


def built(cells, **options):
    ids = [str(i) for i in range(len(cells))]
    return from_tables({"id": ids, "v": cells}, {"members": [ids]}, **options)


@pytest.mark.checked(
    "numbers", "Numbers with signs or units (12%, $12, 3.5 kg, 1 234) are read as numbers if the column has one unit."
)
@pytest.mark.parametrize(("cells", "decimal", "expected"), READ.values(), ids=READ)
def test_numbers_with_units_and_separators(cells, decimal, expected, tmp_path):
    dataset = built(cells, decimal=decimal)
    encoder = dataset[0].meta["encoder"]
    assert encoder.codings[0].kind == "numeric"
    numbers = torch.tensor(expected, dtype=torch.float64)
    scaled = (numbers - numbers.mean()) / numbers.std(correction=0)
    torch.testing.assert_close(dataset[0].x[:, 0].double(), scaled, atol=1e-6, rtol=1e-6)
    encoder.save(tmp_path)
    again = Encoder.load(tmp_path)
    assert again.same_as(encoder)
    assert torch.equal(again.transform({"v": cells}), dataset[0].x)
    mark = encoder.codings[0].words
    assert bool(mark) == any(f"is read as numbers with the unit {m!r}" in q for q in dataset.caveats for m in mark)


REFUSED = {
    "decimal comma or thousands": (["1,234", "5"], None, r"1.234 with --decimal ',' or 1234 with --decimal '.'"),
    "decimal comma or list": (["1,5", "2,5"], None, "'1,5': 1.5 with --decimal ','"),
    "days or months": (["01/02/2024", "03/04/2024"], None, "'01/02/2024', with day or month first"),
    "two units": (["3 kg", "4 lb"], None, "numbers with one unit, got the units 'kg', 'lb'"),
    "with and without a unit": (["3 kg", "4"], None, "units '', 'kg'"),
}


@pytest.mark.checked(
    "numbers", "A column that can be read in two ways (1,234; 01/02/2024; kg and lb) is an error that shows both."
)
@pytest.mark.parametrize(("cells", "decimal", "said"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_columns_are_refused(cells, decimal, said):
    with pytest.raises(DataError, match=said) as caught:
        built(cells, decimal=decimal)
    assert "--type v=categorical" in str(caught.value)
    data = built(cells, decimal=decimal, types={"v": "categorical"})[0]
    assert data.num_features == len(set(cells))


NO_NUMBERS = {
    "codes": ["7B", "8B", "9C"],
    "more codes": ["ABC123", "ABC124", "ABC125"],
    "ordinals": ["1st", "2nd", "3rd"],
    "names": ["Doe, 12", "Roe, 13", "Poe, 14"],
    "versions": ["1.2.3", "1.2.4", "1.3.0"],
    "addresses": ["12 Main Street", "7 Main Street", "8 Side Street"],
}


@pytest.mark.parametrize("cells", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_codes_are_not_numbers(cells):
    assert built(cells)[0].meta["encoder"].codings[0].kind == "categorical"


def test_new_cells_need_the_same_unit():
    encoder = built(["3 kg", "4 kg"])[0].meta["encoder"]
    for cell in ("3 lb", "3"):
        with pytest.raises(DataError, match=f"a finite number with 'kg', got '{cell}'"):
            encoder.transform({"v": [cell]})


@pytest.mark.checked("numbers", "A label column of numbers with a sign ($1, $2) is an error until you pass the task.")
def test_labels_with_a_unit_need_a_task():
    with pytest.raises(DataError, match="class names or plain numbers"):
        built(["$1", "$2"], label="v")
    assert built(["$1", "$2"], label="v", task="regression")[0].y.tolist() == [1, 2]
    assert built(["$1", "$2"], label="v", task="classification")[0].meta["class_names"] == ("$1", "$2")


VALUES = [1.234, 2.5, 3.0, 40.25, 1e-5, 6.0]
WRITTEN = [str(value).replace(".", ",") for value in VALUES]


@pytest.mark.checked(
    "numbers", "The decimal sign applies to texts: numbers of Parquet files and requests are read as they are."
)
@pytest.mark.parametrize("library", ["dict", "mixed", "pandas", "pyarrow", "parquet"])
def test_the_decimal_sign_is_that_of_texts_and_not_of_numbers(tmp_path, library):
    cells = VALUES if library != "mixed" else [VALUES[0], *WRITTEN[1:4], *VALUES[4:]]
    table = {"id": list("abcdef"), "v": cells, "y": [v / 8 for v in VALUES]}
    if library == "pandas":
        table = pytest.importorskip("pandas").DataFrame(table)
    elif library in ("pyarrow", "parquet"):
        table = pytest.importorskip("pyarrow").table(table)
        if library == "parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
            table = tmp_path / "t.parquet"
    texts = {"id": list("abcdef"), "v": WRITTEN, "y": [str(v / 8).replace(".", ",") for v in VALUES]}
    found, expected = (from_tables(t, {"members": ["a;b"]}, label="y", decimal=",")[0] for t in (table, texts))
    assert torch.equal(found.x, expected.x)
    assert found.y.tolist() == expected.y.tolist() == pytest.approx([v / 8 for v in VALUES])
    encoder = found.meta["encoder"]
    assert encoder.codings[0].numbers == expected.meta["encoder"].codings[0].numbers
    rows = encoder.transform({"v": [1.234, "1,234", 1234, "1.234"]})[:, 0].tolist()  # the last text is 1234, too
    assert rows[0] == rows[1] != rows[2] == rows[3]


def test_numeric_columns_with_commas_need_a_decimal_sign():
    with pytest.raises(DataError, match="expected a finite number, got '1,234'"):
        built(["1,234", "5"], types={"v": "numeric"})
    encoder = built(["1,234", "5"], types={"v": "numeric"}, decimal=".")[0].meta["encoder"]
    assert encoder.codings[0].numbers[0] == pytest.approx((1234 + 5) / 2)
