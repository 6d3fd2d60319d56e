"""Hints point somewhere: names import, and options are those of the command that they are said of."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import hgraph
from hgraph import Hypergraph, KnowledgeGraph, convert
from hgraph.cli.app import app
from hgraph.cli.flags import commands_of, located, options_of
from hgraph.cli.predict import predict
from hgraph.cli.train import train
from hgraph.errors import ArgumentError

ROOT = Path(hgraph.__file__).parent
PAGES = Path(__file__).parent.parent
COMMANDS = {name: options_of(command) for name, command in commands_of()}
NAME = re.compile(r"(?<![\w./`-])`?(hgraph(?:\.[a-z_]\w*)+(?:\.[A-Z]\w*)*)\b(?!\.\w)")
ROOTS = [
    name for name in (*hgraph._SUBPACKAGES, *hgraph.__all__) if name not in ("data", "draw", "structure")
]  # of variables, too
CALL = re.compile(rf"(?<![\w./])((?:{'|'.join(ROOTS)})\.[a-z_]\w*)\(")  # train.fit(
COMMAND = re.compile(r"\bhgraph ((?:datasets |kernels )?[a-z]+)((?: [^`\n|#&]*)?)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
WORDS = {"command", "student", "run", "learns", "data", "hypergraph"}  # "the hgraph command", "a hgraph run"


def texts_of(source: str) -> list[str]:
    """Every text of a module, comments left out; f-strings with * for what is put in."""
    found, inside = [], set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inside.update(map(id, node.values))
            parts = [p.value if isinstance(p, ast.Constant) else "*" for p in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return found


SOURCES = [p for p in sorted(ROOT.rglob("*.py")) if not {"testing", "benchmarks"} & set(p.relative_to(ROOT).parts)]
SOURCES += [p for p in sorted((ROOT / "datasets").rglob("*.py")) if p not in SOURCES]
TEXTS = {str(p.relative_to(ROOT)): "\n".join(texts_of(p.read_text(encoding="utf-8"))) for p in SOURCES}
TEXTS |= {name: (PAGES / name).read_text(encoding="utf-8") for name in ("README.md", "SECURITY.md")}
TEXTS |= {p.name: p.read_text(encoding="utf-8") for p in sorted((PAGES / "tutorials").glob("*.py"))}


def missing_names(text: str) -> list[str]:
    names = [*NAME.findall(text), *(f"hgraph.{name}" for name in CALL.findall(text))]
    return [name for name in dict.fromkeys(names) if not resolves(name)]


def resolves(name: str) -> bool:
    place, names = importlib.import_module("hgraph"), name.split(".")[1:]
    for at, part in enumerate(names):
        if not hasattr(place, part):
            try:
                importlib.import_module(".".join(["hgraph", *names[: at + 1]]))
            except ModuleNotFoundError:
                return False
        place = getattr(place, part)
    return True


def missing_options(text: str) -> list[str]:
    """Commands and options in a text that there are not."""
    wrong = []
    for name, rest in COMMAND.findall(text):
        if name not in COMMANDS:
            in_code = f"`hgraph {name}" in text and name not in ("datasets", "kernels", "COMMAND")
            wrong += [f"hgraph {name}"] if in_code and name not in WORDS else []
        else:
            wrong += [f"hgraph {name} {flag}" for flag in FLAG.findall(rest) if flag not in {*COMMANDS[name], "--help"}]
    return wrong


def test_names_in_texts_import() -> None:
    apart = {
        "data/interactions.py": ["hgraph.structure.Interactions", "hgraph.structure.TripleSplit"]
    }  # names in files
    wrong = {source: missing_names(text) for source, text in TEXTS.items()}
    assert {source: names for source, names in wrong.items() if names != apart.get(source, [])} == {}


def test_commands_in_texts_have_the_options_said_of_them() -> None:
    wrong = {source: missing_options(text) for source, text in TEXTS.items()}
    assert {source: names for source, names in wrong.items() if names} == {}


def test_the_options_that_the_library_speaks_of_are_some_commands() -> None:
    every = {flag for flags in COMMANDS.values() for flag in flags}
    spoken = {s: t for s, t in TEXTS.items() if s.startswith(("datasets/", "convert/", "train/", "cli/"))}
    apart = {"cli/bench.py": {"--suffix", "--own"}}  # of the process that it starts
    wrong = {s: set(FLAG.findall(t)) - every - {"--help", "--version"} - apart.get(s, set()) for s, t in spoken.items()}
    assert {s: flags for s, flags in wrong.items() if flags} == {}


def test_the_walk_finds_what_points_nowhere() -> None:
    assert missing_names("see hgraph.knn_hypergraph") == ["hgraph.knn_hypergraph"]
    assert missing_names("see hgraph.builders.knn_hypergraph or `hgraph.nn.GCNConv`, train.fit()") == []
    assert missing_names("Graph.from_names(...) makes one") == ["hgraph.Graph.from_names"]
    assert missing_options("`hgraph predict RUN --type a=b`") == ["hgraph predict --type"]
    assert missing_options("`hgraph datasets make X`") == ["hgraph datasets make"]
    assert texts_of('f"`hgraph train {x} --model gcn`"') == ["`hgraph train * --model gcn`"]


def test_an_option_of_another_command_is_said_with_it() -> None:
    said = located("keep the text with --type a=categorical", predict)
    assert said == "keep the text with --type a=categorical. --type: see `hgraph datasets build --help`"
    for whole in ("--out names a file", "`hgraph datasets build --label y` does", "nothing"):
        assert located(whole, predict) == whole
    assert located("--model and --user", train) == "--model and --user. --user: see `hgraph recommend --help`"


# ---------------------------------------------------------------------- what hints ask for is taken

REPEATED = {
    "kgat.txt": "0 0 1\n0 0 1\n",
    "kgcn.txt": "0\tby\t1\n0\tby\t1\n",
    "triples.tsv": "a\tby\tb\na\tby\tb\n",
    "a.kg": "head_id:token\trelation_id:token\ttail_id:token\na\tby\tb\na\tby\tb\n",
    "entity2id.txt": "2\na\t0\nb\t1\n",
    "relation2id.txt": "1\nby\t0\n",
    "train2id.txt": "2\n0 1 0\n0 1 0\n",
}
READERS = {
    "kgat": (convert.read_kgat, "kgat.txt"),
    "kgcn": (convert.read_kgcn, "kgcn.txt"),
    "words": (convert.read_triples, "triples.tsv"),
    "recbole": (convert.read_recbole, "a.kg"),
    "openke": (convert.read_openke, ""),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_of_triples_take_the_duplicates_that_their_hint_names(tmp_path, name) -> None:
    for file, text in REPEATED.items():
        (tmp_path / file).write_text(text)
    read, file = READERS[name]
    with pytest.raises(ArgumentError, match="duplicates='drop'"):
        read(tmp_path / file)
    assert read(tmp_path / file, duplicates="drop").num_edges == 1
    assert read(tmp_path / file, duplicates="keep").num_edges == 2


def test_hypergraphs_name_what_repeats_in_words_that_help() -> None:
    with pytest.raises(ArgumentError, match=r"set\(members\)") as caught:
        Hypergraph.from_lists([[0, 0]], num_nodes=2)
    assert "duplicates" not in str(caught.value)
    scipy = pytest.importorskip("scipy.sparse")
    twice = scipy.coo_array(([1.0, 1.0], ([0, 0], [0, 0])), shape=(1, 1))
    assert Hypergraph.from_incidence(twice).v2e.weight.tolist() == [2.0]
    assert KnowledgeGraph.from_names([("a", "b", "c")] * 2, duplicates="drop").num_edges == 1


def test_two_towers_are_said_to_rank_items(tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"kind": "recommender", "model": "twotower"}')
    for asked in (["export", str(run)], ["predict", str(run), str(run / "config.json")]):
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 2
        assert f"`hgraph recommend {run}`" in result.stderr
        assert "hgraph distill" not in result.stderr


def test_a_program_that_is_not_there_is_said_with_the_command_that_writes_it(tmp_path) -> None:
    from hgraph.distill import Predictor, export

    export(torch.nn.Linear(3, 2), tmp_path / "student", torch.eye(3))
    with pytest.raises(ArgumentError, match="hgraph export RUN --format onnx"):
        Predictor(tmp_path / "student", program="onnx")
