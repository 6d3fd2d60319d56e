"""Trained networks of run folders, with the data as they read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.cli.choices import CLASSIFIERS
from hgraph.cli.common import LOG, load
from hgraph.cli.teachers import Setting, Student, networks_of
from hgraph.cli.train import network_of
from hgraph.errors import DataError
from hgraph.models.registry import ModelEntry, find

if TYPE_CHECKING:
    from torch import nn

    from hgraph.data import Data

__all__ = ["Opened", "as_trained", "config_of", "filled", "opened"]


@dataclass(frozen=True)
class Opened:
    """What a run of `hgraph train` or `hgraph distill` was.

    Args:
        source: the data set, as the command named it.
        model: the network, or the teacher.
        setting: what training saw.
        seed: of the run.
        distilled: whether there are an MLP and a student beside.
        student: the form of the MLP.
        shape: the network's width and dropout, where the run has them.
    """

    source: str
    model: ModelEntry
    setting: Setting
    seed: int
    distilled: bool
    student: Student
    shape: dict[str, Any]

    def networks(self, data: Data) -> dict[str, nn.Module]:
        """The networks by the names of their files, not yet with their weights."""
        if self.distilled:
            return networks_of(data, self.model, self.student, self.seed)
        return {"model": network_of(self.model, data, self.seed, **self.shape)}


def opened(run: Path, config: dict[str, Any]) -> Opened:
    """The run of these settings.

    Raises:
        DataError: settings that are missing or unknown.
    """
    try:
        distilled = "run" in config
        facts = config["run"] if distilled else config
        kind = facts["teacher" if distilled else "model"]
        if kind not in CLASSIFIERS:
            raise ValueError(f"a classifier, got {kind!r}")
        return Opened(
            str(facts["dataset" if distilled else "source"]),
            find(kind),
            Setting(facts["setting"]),
            facts["seed"],
            distilled,
            Student(facts.get("student", Student.PUBLISHED.value)),
            {name: facts[name] for name in ("hidden", "dropout") if name in facts},
        )
    except (KeyError, ValueError, TypeError) as error:
        raise no_run(run, error) from error


def config_of(run: Path) -> dict[str, Any]:
    """The settings that a run has written down.

    Raises:
        DataError: there are none.
    """
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        return dict(config)
    except (OSError, ValueError, TypeError) as error:
        raise no_run(run, error) from error


def as_trained(run: Path, data: Data, dataset: str | None, source: str, root: Path | None, seed: int) -> Data:
    """The data with the features and classes that the run's network was trained on."""
    from hgraph.datasets import Inputs

    found = Inputs.load(run) or Inputs.load(run / "student")
    if found is None:  # a run of before, which did not keep them: its data may still be there
        if dataset is None:
            return data
        found = Inputs.of(load(source, root=root, seed=seed)[0])
    if dataset is not None and found.encoder is None and found.feature_names is None:
        LOG.warning("%s: its features have no names; they are taken in their order", dataset)
    try:
        return found.applied(data, str(dataset or source))
    except DataError as error:
        raise DataError(f"{run}: its network does not fit {dataset or source!r} ({error})") from error


def filled(network: nn.Module, run: Path, name: str, data: Data, dataset: str) -> nn.Module:
    """The network with the weights of the run, in eval mode."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(run / f"{name}.safetensors"))
    except (OSError, SafetensorError) as error:
        raise no_run(run, error) from error
    except RuntimeError as error:
        wanted = f"{data.num_features} features and {data.num_classes} classes"
        raise DataError(f"{run}: its network does not fit {dataset!r} with {wanted} ({error})") from error
    return network.eval()


def no_run(run: Path, error: Exception) -> DataError:
    reason = f"its config.json has no {error}" if isinstance(error, KeyError) else error
    return DataError(f"{run}: not a finished run of `hgraph train` or `hgraph distill` ({reason})")
