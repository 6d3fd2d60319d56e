"""Loads trained networks from run folders, and prepares data for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.cli.choices import CLASSIFIERS
from hgraph.cli.common import LOG, load
from hgraph.cli.node_runs import network_of
from hgraph.cli.runs import check_source
from hgraph.cli.teachers import Setting, Student, networks_of
from hgraph.errors import DataError
from hgraph.models.registry import ModelEntry, find

if TYPE_CHECKING:
    from torch import nn

    from hgraph.data import Data
    from hgraph.train import NodeTask

__all__ = ["RunSettings", "config_of", "encode_for_run", "load_weights", "read_settings", "source_of"]

_OPTIONS = ("epochs", "lr", "weight_decay", "patience", "clip", "schedule", "precision")


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run of `hgraph train` or `hgraph distill`.

    Args:
        source: name or folder of the data set.
        model: the network or, for a distillation, the teacher.
        setting: which nodes were in training.
        seed: the seed of the run.
        distilled: whether the run has an MLP and a student, too.
        student: the kind of MLP.
        shape: width and dropout of the network (of a distillation: of the teacher), if the run has saved them.
        task: the loss, the metrics and the answers for the labels.
        options: the options of the training, if the run has saved them.
        positions: number of positions that the student reads.
    """

    source: str
    model: ModelEntry
    setting: Setting
    seed: int
    distilled: bool
    student: Student
    shape: dict[str, Any]
    task: NodeTask
    options: dict[str, Any]
    positions: int = 0

    def networks(self, data: Data) -> dict[str, nn.Module]:
        """Name of the weights file -> network, not yet with these weights."""
        if self.distilled:
            return networks_of(data, self.model, self.student, self.seed, positions=self.positions, **self.shape)
        return {"model": network_of(self.model, data, self.seed, **self.shape)}


def read_settings(run: Path, config: dict[str, Any]) -> RunSettings:
    """Read the settings of a run from its configuration.

    Raises:
        DataError: settings are missing or unknown.
    """
    from hgraph.train import task_from

    try:
        distilled = "run" in config
        settings = config["run"] if distilled else config
        kind = settings["teacher" if distilled else "model"]
        if kind not in CLASSIFIERS:
            raise ValueError(f"a classifier, got {kind!r}")
        return RunSettings(
            str(settings["source"] if "source" in settings else settings["dataset"]),
            find(kind),
            Setting(settings["setting"]),
            settings["seed"],
            distilled,
            Student(settings.get("student", Student.PUBLISHED.value)),
            {name: settings[name] for name in ("hidden", "dropout") if name in settings},
            task_from(config.get("task")),
            {name: settings[name] for name in _OPTIONS if name in settings},
            int(settings.get("positions", 0)),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise _not_a_run(run, error) from error


def source_of(run: Path, settings: RunSettings, dataset: str | None = None) -> str:
    """The data set to load: the given one, else that of the run.

    Raises:
        DataError: the folder of the run's data is gone.
    """
    if dataset is None:
        check_source(run, settings.source)
    return dataset or settings.source


def config_of(run: Path) -> dict[str, Any]:
    """Read the config.json of a run.

    Raises:
        DataError: the file does not exist or cannot be read.
    """
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        return dict(config)
    except (OSError, ValueError, TypeError) as error:
        raise _not_a_run(run, error) from error


def encode_for_run(run: Path, data: Data, dataset: str | None, source: str, root: Path | None, seed: int) -> Data:
    """Encode the data with the features and classes of the run's network."""
    from hgraph.datasets import Inputs

    found = Inputs.load(run) or Inputs.load(run / "student")
    if found is None:  # a run of an older version, which did not save them: its data set may still exist
        if dataset is None:
            return data
        found = Inputs.of(load(source, root=root, seed=seed)[0])
    if dataset is not None and found.encoder is None and found.feature_names is None:
        LOG.warning("%s: the features of the run have no names, so they are matched by position", dataset)
    try:
        return found.applied(data, str(dataset or source))
    except DataError as error:
        raise DataError(f"{run}: the network does not match {dataset or source!r} ({error})") from error


def load_weights(network: nn.Module, run: Path, name: str, data: Data, dataset: str) -> nn.Module:
    """Load the weights of the run into the network, and set it to eval mode."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(run / f"{name}.safetensors"))
    except (OSError, SafetensorError) as error:
        raise _not_a_run(run, error) from error
    except RuntimeError as error:
        wanted = f"{data.num_features} features and {data.num_outputs} outputs"
        raise DataError(f"{run}: the network does not match {dataset!r} with {wanted} ({error})") from error
    return network.eval()


def _not_a_run(run: Path, error: Exception) -> DataError:
    reason = f"its config.json has no {error}" if isinstance(error, KeyError) else error
    return DataError(f"{run}: not a finished run of `hgraph train` or `hgraph distill` ({reason})")
