"""Files of triples in every format, errors with line numbers; round trips with networkx and PyG."""

import pickle

import pytest
import torch

from hgraph import Adjacency, KnowledgeGraph, convert
from hgraph.convert.triples import recbole_columns
from hgraph.data import Interactions, TripleSplit
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.models import DistMult
from hgraph.testing import random_knowledge_graph
from hgraph.train import fit_triples

WORDS = "a\tknows\tb\r\nb\tknows\tc\r\n\r\nc d\tis a\tb\r\n"
OPENKE = {
    "entity2id.txt": "3\nUnited States\t0\nb\t2\nc\t1\n",
    "relation2id.txt": "2\n/r/one\t0\n/r/two\t1\n",
    "train2id.txt": "2\n0 1 1\n2 0 0\n",
}


@pytest.fixture
def write(tmp_path):
    def put(text, name="file"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return put


def triples_of(kg):
    return [tuple(f) for f in kg.find_triples()]


def test_words(write):
    kg = convert.read_triples(write(WORDS))
    assert set(triples_of(kg)) == {("a", "knows", "b"), ("b", "knows", "c"), ("c d", "is a", "b")}
    assert list(kg.node_names) == ["a", "b", "c", "c d"]
    convert.write_triples(kg, write("", "again"))
    assert set(triples_of(convert.read_triples(write("", "again").parent / "again"))) == set()


def test_words_round_trip(write, tmp_path):
    kg = convert.read_triples(write(WORDS))
    convert.write_triples(kg, tmp_path / "again")
    again = convert.read_triples(tmp_path / "again")
    assert set(triples_of(again)) == set(triples_of(kg))
    convert.write_triples(random_knowledge_graph(4, 5), tmp_path / "numbers")
    assert convert.read_kgat(tmp_path / "numbers", num_nodes=4, num_relations=3).num_edges == 5
    with pytest.raises(ArgumentError, match="texts without tabs"):
        convert.write_triples(KnowledgeGraph.from_names([("a\tb", "c", "d")]), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_words_separated_by_commas(write):
    text = 'head,relation,tail\r\n"Dune, 1965",by,Herbert\r\n\r\nb,"said ""no""",c\r\n'
    expected = {("Dune, 1965", "by", "Herbert"), ("b", 'said "no"', "c")}
    assert set(triples_of(convert.read_triples(write(text, "triples.CSV")))) == expected
    assert set(triples_of(convert.read_triples(write(text), delimiter=","))) == expected
    assert triples_of(convert.read_triples(write("a;b,;c\n", "x.csv"), delimiter=";")) == [("a", "b,", "c")]
    assert triples_of(convert.read_triples(write('a"\tb,\tc\n', "x.csv"), delimiter="\t")) == [('a"', "b,", "c")]
    assert triples_of(convert.read_triples(write("a,b,c\nhead,relation,tail\n", "x.csv"))) == [
        ("a", "b", "c"),
        ("head", "relation", "tail"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\na,b\n", "line 2: expected 3 fields separated by ',', got 2"),
        ("a,b,c\n\n\na,b,c,d\n", "line 4: expected 3 fields separated by ',', got 4"),
        ('a,b,"c\nd"\n,b,c\n', "line 3: expected no empty field"),
        ('a,b,c\na,b,"c\nd,e,f\n', "line 2: invalid CSV from here on"),
        ('a,b,c\na,b,"c"d\n', "line 2: invalid CSV from here on"),
        (b"a,b,c\n\xff,b,c\n", "line 2: not UTF-8"),
    ],
)
def test_bad_lines_of_csv_raise_errors_with_their_number(text, message, write):
    with pytest.raises(DataError, match=message):
        convert.read_triples(write(text, "x.csv"))


@pytest.mark.parametrize("delimiter", ["", ", ", '"', "\n", 3])
def test_invalid_delimiters(delimiter, write):
    with pytest.raises(ArgumentError, match="one character"):
        convert.read_triples(write(WORDS), delimiter=delimiter)


def test_numbers(write):
    kg = convert.read_kgat(write("0 1 5\n3 0 2\n"))
    assert (kg.num_nodes, kg.num_relations, kg.triples.tolist()) == (6, 2, [[0, 1, 5], [3, 0, 2]])
    assert convert.read_kgat(write(""), num_nodes=3, num_relations=1).num_edges == 0
    named = convert.read_kgcn(write("0\tof\t5\r\n3\tby\t2\r\n"))
    assert (list(named.relation_names), named.triples.tolist()) == (["of", "by"], [[0, 0, 5], [3, 1, 2]])
    assert convert.read_kgcn(write("0\t7\t5\n"), num_nodes=9).triples.tolist() == [[0, 7, 5]]


def test_recbole(write):
    text = "tail_id:token\trelation_id:token\thead_id:token\nm.1\tfilm.by\tm.2\n"
    assert triples_of(convert.read_recbole(write(text))) == [("m.2", "film.by", "m.1")]
    assert recbole_columns("a:token\tb:float\n1\t\n", "f", ("b", "a")) == [[""], ["1"]]


def test_openke_has_the_tail_before_the_relation(write):
    for name, text in OPENKE.items():
        folder = write(text, name).parent
    kg = convert.read_openke(folder)
    assert triples_of(kg) == [("United States", "/r/two", "c"), ("b", "/r/one", "United States")]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (convert.read_triples, "a\tb\tc\na\tb\n", "line 2: expected 3 fields separated by tabs, got 2"),
        (convert.read_triples, "a\tb\tc\n\na\tb\tc\td\n", "line 3: expected 3 fields separated by tabs, got 4"),
        (convert.read_triples, "a\t\tc\n", "line 1: expected no empty field"),
        (convert.read_triples, b"a\tb\tc\n\xff\tb\tc\n", "line 2: not UTF-8"),
        (convert.read_kgat, "0 0 1\n0 0\n", "line 2: expected 3 fields separated by blanks, got 2"),
        (convert.read_kgat, "0 0 1\n0 0 x\n", "line 2: expected a whole number, 0 or more, got 'x'"),
        (convert.read_kgat, "0 -1 1\n", "line 1: expected a whole number, 0 or more, got '-1'"),
        (convert.read_kgat, "0 99999999999999999999 1\n", "line 1: expected a whole number"),
        (convert.read_kgat, "0 ² 1\n", "line 1: expected a whole number"),
        (convert.read_kgcn, "0\tof\t1\n0 of 1\n", "line 2: expected 3 fields separated by tabs"),
        (convert.read_kgcn, "0\tof\tx\n", "line 1: expected a whole number"),
        (convert.read_recbole, "head_id:token\trelation_id:token\n", "line 1: expected a header with tail_id:token"),
        (convert.read_recbole, "head_id\trelation_id\ttail_id\na\tb\n", "line 2: expected 3 fields"),
    ],
)  # fmt: skip
def test_bad_lines_raise_errors_with_their_number(read, text, message, write):
    with pytest.raises(DataError, match=message):
        read(write(text))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train2id.txt", "3\n0 1 1\n2 0 0\n", "line 1 says 3 triples, there are 2"),
        ("train2id.txt", "2\n0 1 1\n2 0\n", "line 3: expected 3 fields"),
        ("train2id.txt", "x\n", "line 1: expected a whole number"),
        ("train2id.txt", "2\n0 1 1\n2 0 2\n", r"line 3: expected a relation in 0 .. 1, got 2"),
        ("train2id.txt", "2\n0 1 1\n\n2 3 0\n", r"line 4: expected a tail in 0 .. 2, got 3"),
        ("entity2id.txt", "2\na\t0\nb\t2\n", r"line 3: expected a unique id in 0 .. 1, got 2"),
        ("entity2id.txt", "2\na\t0\nb\t0\n", r"line 3: expected a unique id .* is already used"),
        ("entity2id.txt", "3\na\t0\nb\t2\n", "line 1 says 3 names, there are 2"),
        ("entity2id.txt", "1\na\tb\n", "line 2: expected a whole number"),
    ],
)
def test_bad_openke_folders(name, text, message, write):
    for each, content in (OPENKE | {name: text}).items():
        folder = write(content, each).parent
    with pytest.raises(DataError, match=message):
        convert.read_openke(folder)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (lambda path: convert.read_kgat(path, num_nodes=5), "0 1 4\n\n5 0 2\n", r"line 3: expected a head in 0 .. 4"),
        (lambda path: convert.read_kgat(path, num_nodes=5), "0 1 4\n1 0 7\n", r"line 2: .* tail in 0 .. 4, got 7"),
        (lambda path: convert.read_kgat(path, num_nodes=5), "0 1 4\n1 0 7\n6 0 1\n", r"line 2: .* tail"),  # the first
        (lambda path: convert.read_kgat(path, num_relations=1), "0 0 4\n1 1 7\n", r"line 2: .* relation in 0 .. 0"),
        (lambda path: convert.read_kgcn(path, num_nodes=3), "0\tof\t1\n3\tby\t1\n", r"line 2: .* head in 0 .. 2"),
        (lambda path: convert.read_kgcn(path, num_nodes=3), "0\t9\t1\n2\t9\t3\n", r"line 2: .* tail in 0 .. 2"),
    ],
)
def test_numbers_beyond_a_size_raise_errors_with_their_line(read, text, message, write):
    with pytest.raises(DataError, match=message):
        read(write(text))


@pytest.mark.parametrize("size", [-1, "3", True, 2.0])
def test_an_invalid_size_is_an_error_of_the_argument(size, write):
    with pytest.raises(ArgumentError, match="num_nodes: expected a whole number, 0 or more"):
        convert.read_kgat(write("0 1 4\n"), num_nodes=size)


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        convert.read_triples(tmp_path / "none")


# ---------------------------------------------------------------------- other libraries


def test_networkx_round_trip():
    import networkx as nx

    kg = KnowledgeGraph.from_names([("a", "r", "b"), ("a", "s", "b"), ("b", "r", "b")])
    kg = kg.with_interactions([0], [1], num_users=2)
    graph = convert.to_networkx_triples(kg)
    assert isinstance(graph, nx.MultiDiGraph)
    assert sorted((u, d["relation"], v) for u, v, d in graph.edges(data=True)) == sorted(triples_of(kg))
    again = convert.from_networkx_triples(graph)
    assert sorted(triples_of(again)) == sorted(triples_of(kg))
    assert [again.type_names[int(t)] for t in again.node_type] == ["user", "user", "entity", "entity"]
    weighted = convert.to_networkx_triples(random_knowledge_graph(4, 5, weighted=True))
    assert all("weight" in d for *_, d in weighted.edges(data=True))
    keyed = nx.MultiDiGraph([(0, 1, "r"), (0, 1, "s")])
    assert sorted(triples_of(convert.from_networkx_triples(keyed, relation=None))) == [("0", "r", "1"), ("0", "s", "1")]
    with pytest.raises(ArgumentError, match="edges with only the attribute 'relation'"):
        convert.from_networkx_triples(nx.DiGraph([(0, 1)]))
    with pytest.raises(ArgumentTypeError, match="a directed networkx graph"):
        convert.from_networkx_triples(nx.Graph())
    with pytest.raises(ArgumentError, match="distinct node names"):
        convert.to_networkx_triples(KnowledgeGraph.from_triples(
            head=[0], relation=[0], tail=[1], num_nodes=2, num_relations=1, node_names=["a", "a"]))  # fmt: skip


def test_pyg_round_trip():
    hetero = pytest.importorskip("torch_geometric.data").HeteroData()
    hetero["user"].num_nodes = 2
    hetero["film"].x = torch.ones(3, 4)
    hetero["user", "likes", "film"].edge_index = torch.tensor([[0, 1, 1], [2, 0, 2]])
    hetero["film", "like", "film"].edge_index = torch.tensor([[0], [1]])
    hetero["film", "likes", "user"].edge_index = torch.tensor([[0], [1]])
    kg = convert.from_pyg_triples(hetero)
    assert list(kg.type_names) == ["user", "film"]
    assert kg.node_type.tolist() == [0, 0, 1, 1, 1]
    assert list(kg.relation_names) == ["user likes film", "like", "film likes user"]
    assert sorted(map(tuple, kg.triples.tolist())) == [(0, 0, 4), (1, 0, 2), (1, 0, 4), (2, 1, 3), (2, 2, 1)]
    again = convert.to_pyg_triples(kg)
    assert again["user", "user likes film", "film"].edge_index.tolist() == [[0, 1, 1], [2, 0, 2]]
    assert again["film"].num_nodes == 3
    assert convert.from_pyg_triples(again).triples[:, [0, 2]].tolist() == kg.triples[:, [0, 2]].tolist()
    bare = convert.to_pyg_triples(random_knowledge_graph(5, 9, 2))
    assert sum(bare[t].edge_index.shape[1] for t in bare.edge_types) == 9


# ---------------------------------------------------------------------- lines that are no triples

SPLIT = ("a\tr\tb\n", "c\tr\ta\n", "b\ts\td\n")
# file -> log message; each contains a r b, c r a
NO_TRIPLES = {
    "header": ("head\trelation\ttail\na\tr\tb\nc\tr\ta\n", "line 1 is a header"),
    "header in capitals": ("Subject\tPredicate\tObject\na\tr\tb\nc\tr\ta\n", "line 1 is a header"),
    "header of another order": ("tail\thead\trelation\nb\ta\tr\na\tc\tr\n", "line 1 is a header"),
    "header of RecBole": ("head_id:token\trelation_id:token\ttail_id:token\na\tr\tb\nc\tr\ta\n", "is a header"),
    "header in a comment": ("# s\tp\to\na\tr\tb\nc\tr\ta\n", "line 1 is a header"),
    "comments": ("# made 2024\n%% by hand\tor not\na\tr\tb\n# x\ty\tz\nc\tr\ta\n", "3 comment lines"),
    "blanks": ("\n a\tr \tb\n\t\t\n  \nc\t r\ta\r\n", "blanks around fields of 2 lines"),
}


@pytest.mark.checked(
    "triples", "Headers, comments and blanks in a file of triples are skipped with a note; they never become triples."
)
@pytest.mark.parametrize(("text", "expected_text"), NO_TRIPLES.values(), ids=NO_TRIPLES)
def test_headers_comments_and_blanks_are_not_triples(text, expected_text, write, caplog):
    caplog.set_level("INFO", "hgraph")
    assert set(triples_of(convert.read_triples(write(text)))) == {("a", "r", "b"), ("c", "r", "a")}
    assert expected_text in caplog.text
    caplog.clear()
    commas = text.replace("\t", ",").replace("\n,,\n", "\n")
    assert set(triples_of(convert.read_triples(write(commas, "x.csv")))) == {("a", "r", "b"), ("c", "r", "a")}
    assert expected_text in caplog.text


def test_triples_that_look_like_comments_or_headers_are_kept(write, caplog):
    text = "#MeToo\tis\ttag\nhead\trelation\ttail\n"
    assert triples_of(convert.read_triples(write(text))) == [("#MeToo", "is", "tag"), ("head", "relation", "tail")]
    assert not caplog.text


@pytest.mark.checked("triples", "Several files of triples share one vocabulary: `read_triples([train, valid, test])`.")
def test_several_files_have_common_ids(write):
    files = [write(text, str(i)) for i, text in enumerate(SPLIT)]
    split = TripleSplit(*convert.read_triples(files))
    assert [triples_of(kg) for kg in (split.train, split.val, split.test)] == [
        [("a", "r", "b")], [("c", "r", "a")], [("b", "s", "d")],
    ]  # fmt: skip
    assert (split.train.num_nodes, split.train.num_relations) == (4, 2)
    assert split.unseen() == {"val": 1, "test": 1}
    with pytest.raises(ArgumentError, match="one or more files"):
        convert.read_triples([])


@pytest.mark.checked("triples", "A split whose parts number their names independently is an error.")
def test_parts_with_different_ids_are_rejected(write):
    one, two, three = (convert.read_triples(write(text, str(i))) for i, text in enumerate(SPLIT))
    with pytest.raises(ArgumentError, match="parts with the same node and relation ids") as caught:
        TripleSplit(one, two, three)
    assert "read_triples([train, valid, test])" in str(caught.value)
    with pytest.raises(ArgumentError, match="parts with the same node and relation ids"):
        TripleSplit(one, one, two)  # of the same sizes, but two names differ
    numbers = [convert.read_kgat(write(text, "n")) for text in ("0 0 1\n", "0 0 5\n")]
    with pytest.raises(ArgumentError, match="train 2 nodes and 1 relations, val 6 nodes"):
        TripleSplit(numbers[0], numbers[1], numbers[0])
    pickled = pickle.loads(pickle.dumps(TripleSplit(one, one, one)))  # names are compared, not the objects
    assert TripleSplit(pickled.train, one, one).train.equal(one)


@pytest.mark.checked("triples", "Interactions whose parts have different users or items are an error.")
def test_interactions_with_different_ids_are_rejected():
    kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "r", "c")])
    pairs = [
        Adjacency.from_coo(target=[0], source=[0], num_targets=u, num_sources=i) for u, i in ((2, 2), (3, 2), (2, 4))
    ]
    for parts in ((0, 1, 0), (0, 0, 2)):
        with pytest.raises(ArgumentError, match="parts over the same users and items, got train 2 x 2"):
            Interactions(*(pairs[i] for i in parts), kg)
    with pytest.raises(ArgumentError, match="a node for each of the 4 items"):
        Interactions(pairs[2], pairs[2], pairs[2], kg)


@pytest.mark.checked("triples", "Test triples about nodes that training never saw are counted and reported.")
def test_unseen_nodes_of_a_split_are_logged(caplog):
    kg = KnowledgeGraph.from_names([(str(i), f"r{i % 3}", str(i + 1)) for i in range(12)])
    split = TripleSplit.random(kg, val_fraction=0.2, test_fraction=0.3, seed=1)
    expected, trained = {}, split.train.triples.tolist()
    seen = {e for h, _, t in trained for e in (h, t)}, {r for _, r, _ in trained}
    for name in ("val", "test"):
        rows = getattr(split, name).triples.tolist()
        expected[name] = sum(h not in seen[0] or t not in seen[0] or r not in seen[1] for h, r, t in rows)
    assert split.unseen() == expected
    assert sum(expected.values()) > 0
    fit_triples(DistMult(kg.num_nodes, kg.num_relations, dim=2), split, epochs=1, progress=False)
    assert "test triples have a node or relation that is in no training triple" in caplog.text
    covered = TripleSplit.random(kg, val_fraction=0.2, test_fraction=0.3, cover=True, seed=1)
    assert covered.unseen() == {"val": 0, "test": 0}
