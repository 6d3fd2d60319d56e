"""Files that runs of recommenders, triples and graphs have in common, and the checks when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.cli.runs import REPORT, UNDER_WAY, write_json
from hgraph.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["check_finished", "check_unchanged", "finite", "load_weights_of", "write_files"]


def write_files(folder: Path, config: dict[str, Any], curve: bytes, network: nn.Module, report: object) -> Path:
    """Write the files of a finished run, the report last, because it marks the run as finished."""
    from hgraph.files import write_atomically
    from hgraph.train.checkpoint import weights_file

    write_json(folder / "config.json", config)
    write_atomically(folder / "learning_curve.png", curve)
    write_atomically(folder / "model.safetensors", weights_file(network))
    write_atomically(folder / REPORT, str(report).encode())
    return folder / REPORT


def check_finished(run: Path) -> None:
    """Refuse the folder of a run that was stopped.

    Raises:
        DataError: it has a checkpoint and no report.
    """
    if (run / UNDER_WAY).exists() and not (run / REPORT).exists():
        raise DataError(f"{run}: this run was stopped; repeat its `hgraph train` command to resume it")


def check_unchanged(run: Path, source: str, data_sha256: str, found: str) -> None:
    """Refuse data that differ from those of the training: ids and splits depend on the rows and their order.

    Raises:
        DataError: the fingerprints differ.
    """
    if data_sha256 != found:
        hint = "Restore the files, or train again: hgraph train ... --overwrite"
        what = f"{source} has changed since this run was trained (rows, or their order)"
        raise DataError(f"{run}: {what}: its data_sha256 differs. {hint}")


def finite(state: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The weights of a file, after a check that they are numbers: predictions with others would be NaN.

    Raises:
        DataError: a weight is NaN or infinite; names the file and the weight.
    """
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DataError(f"{file}: {name}: expected finite weights, got NaN or infinity; train again")
    return state


def load_weights_of(run: Path, network: nn.Module) -> None:
    """Load the weights of a run into its network.

    Raises:
        DataError: they are missing, damaged, or do not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(finite(load_file(run / "model.safetensors"), run / "model.safetensors"))
    except RuntimeError as error:
        where = f"{run / 'config.json'}: model, hidden"
        raise DataError(f"{where}: the weights in model.safetensors do not fit this network") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{run}: model.safetensors does not hold the weights of this run ({error})") from error
