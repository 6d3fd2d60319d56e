"""The `hgraph` application; each command is in a file of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from hgraph import __version__
from hgraph.cli import datasets, kernels
from hgraph.cli.bench import bench
from hgraph.cli.build import build
from hgraph.cli.distill import distill
from hgraph.cli.evaluate import evaluate
from hgraph.cli.explain import explain
from hgraph.cli.flags import set_program
from hgraph.cli.papers import papers
from hgraph.cli.predict import predict
from hgraph.cli.recommend import recommend
from hgraph.cli.reproduce import reproduce
from hgraph.cli.students import export, serve
from hgraph.cli.train import train
from hgraph.cli.tune import tune

app = typer.Typer(
    help="Learning on graphs and hypergraphs.",
    epilog="Example: hgraph distill digits --teacher hgnn+ --seed 0 --out runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
datasets.app.command(
    epilog="Example: hgraph datasets build --nodes nodes.csv --hyperedges he.csv --label y --out my-set"
)(build)
app.add_typer(datasets.app, name="datasets")
app.add_typer(kernels.app, name="kernels")
app.command(epilog="Example: hgraph train my-set --model hgnn+ --seed 0")(train)
app.command(epilog="Example: hgraph tune my-set --model hgnn+ --trials 30")(tune)
app.command(epilog="Example: hgraph evaluate runs/my-set-hgnn+-0")(evaluate)
app.command(epilog="Example: hgraph explain runs/karate-hgnn+-0 --node 8 --draw why.png")(explain)
app.command(epilog="Example: hgraph distill digits --teacher hgnn+ --seed 0 --out runs/demo")(distill)
app.command(epilog="Example: hgraph recommend runs/my-shop-kgat-0 --user ann --explain")(recommend)
app.command(epilog="Example: hgraph reproduce lighthgnn --only cocitation-cora --seeds 1")(reproduce)
app.command(epilog="Example: hgraph export runs/demo --format onnx --format int8")(export)
app.command(epilog="Example: hgraph predict runs/demo rows.csv --out predictions.csv")(predict)
app.command(epilog="Example: hgraph serve runs/demo --port 8000")(serve)
app.command(epilog="Example: hgraph bench ops --only arxiv --rounds 5")(bench)
app.command(epilog="Example: hgraph papers lighthgnn")(papers)
set_program(app)


def main() -> None:
    """Entry point of the ``hgraph`` command."""
    app(prog_name="hgraph")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hgraph {__version__}")
        raise typer.Exit


@app.callback()
def _hgraph(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass
