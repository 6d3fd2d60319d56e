"""`hgraph kernels`: the optional CPU kernels."""

from __future__ import annotations

import json
import time

import typer

from hgraph.cli.common import JsonOption, QuietOption, plain_errors

app = typer.Typer(help="The optional CPU kernels of the `native` backend.", no_args_is_help=True)


@app.callback()
def _kernels() -> None:
    """Make `build` a subcommand; typer would merge a single command into `kernels`."""


@app.command(epilog="Example: hgraph kernels build")
@plain_errors
def build(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Compile the CPU kernels for this machine; all hgraph processes started later use them.

    Needs a C++ compiler with OpenMP ($CXX, g++ or clang++) and takes about 20 seconds, or no time if they are already
    built. The compiled kernels are written to $HGRAPH_CACHE, or to the platform's cache folder; delete them to undo the
    build.
    """
    from hgraph.kernels import native as kernels
    from hgraph.ops.bindings import native

    cxx, folder, start = kernels.compiler(), kernels.folder(), time.perf_counter()
    before = {path for path in folder.glob("native-*.so") if kernels.is_trusted(path)} if folder.is_dir() else set()
    if not quiet and cxx is not None:
        typer.echo(f"compiling {kernels.SOURCE.name} with {cxx} into {folder}", err=True)
    path = native.build()
    result = {"path": str(path), "compiler": cxx, "built": path not in before, "seconds": time.perf_counter() - start}
    if as_json:
        typer.echo(json.dumps(result))
    elif result["built"]:
        typer.echo(f"built in {result['seconds']:.0f} s: {path}\nbackend 'auto' now uses it")
    else:
        typer.echo(f"already built: {path}")
