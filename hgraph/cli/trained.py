"""Loads trained networks from run folders, and prepares data for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hgraph.cli.choices import CLASSIFIERS
from hgraph.cli.common import LOG, load
from hgraph.cli.node_runs import network_of
from hgraph.cli.numbers import MANY, SEEDS, SETTINGS
from hgraph.cli.run_files import finite
from hgraph.cli.runs import SEEDS_FILE, check_source
from hgraph.cli.teachers import Setting, Student, networks_of
from hgraph.errors import DataError
from hgraph.models.registry import ModelEntry, find
from hgraph.schema import Span, fields_of, parse

if TYPE_CHECKING:
    from torch import nn

    from hgraph.data import Data
    from hgraph.train import NodeTask

__all__ = ["RunSettings", "check_run", "config_of", "encode_for_run", "load_weights", "read_settings", "source_of"]

_OPTIONS = ("epochs", "lr", "weight_decay", "patience", "clip", "schedule", "precision")


CONFIG = "config.json"
Seed = Annotated[int, Span(0, SEEDS)]
Hidden = Annotated[int, Span(SETTINGS["hidden"].low, SETTINGS["hidden"].high)]
Dropout = Annotated[float, Span(SETTINGS["dropout"].low, SETTINGS["dropout"].high)]


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The keys of both kinds of runs that are read back."""

    setting: str
    seed: Seed
    hidden: Hidden | None = None
    # the defaults of keys that may be missing, as in older runs, but are never null
    dropout: Dropout = 0.5
    epochs: Annotated[int, Span(1, MANY)] = 200
    lr: Annotated[float, Span(0, SETTINGS["lr"].high)] = 0.01
    weight_decay: Annotated[float, Span(0, SETTINGS["weight_decay"].high)] = 5e-4
    patience: Annotated[int, Span(1, MANY)] | None = None
    clip: Annotated[float, Span(1e-12, 1e12)] | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class _Trained(_Options):
    """The keys of the config.json of `hgraph train` that are read back."""

    source: str
    model: str


@dataclass(frozen=True, kw_only=True)
class _Distilled(_Options):
    """The keys of ``run`` in the config.json of `hgraph distill` that are read back."""

    dataset: str
    teacher: str
    source: str | None = None  # absolute; runs of before have only the data set as it was given
    student: str = Student.PUBLISHED.value
    positions: Annotated[int, Span(0, MANY)] = 0


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

    file, distilled = run / CONFIG, "run" in config
    if config.get("kind") == "triples":
        hint = "`hgraph evaluate` ranks its test triples, and `hgraph predict` completes others"
        raise DataError(f"{file}: kind: expected a network for labels of nodes, got embeddings of triples. {hint}")
    if config.get("kind") == "graphs":
        hint = "Use `hgraph evaluate` for this run"
        raise DataError(f"{file}: kind: expected a network for labels of nodes, got one for labels of graphs. {hint}")
    at, content = ("run.", config["run"]) if distilled else ("", config)
    settings: Any = fields_of(_Distilled if distilled else _Trained, content, file, at=at[:-1], hint=_HINT)
    model, student = (settings.teacher, settings.student) if distilled else (settings.model, Student.PUBLISHED.value)
    _one_of(file, f"{at}{'teacher' if distilled else 'model'}", model, CLASSIFIERS)
    _one_of(file, f"{at}setting", settings.setting, [one.value for one in Setting])
    _one_of(file, f"{at}student", student, [one.value for one in Student])
    return RunSettings(
        settings.dataset if settings.source is None else settings.source,
        find(model),
        Setting(settings.setting),
        settings.seed,
        distilled,
        Student(student),
        {name: getattr(settings, name) for name in ("hidden", "dropout") if name in content},
        task_from(config.get("task"), file),
        {name: getattr(settings, name) for name in _OPTIONS if name in content},
        getattr(settings, "positions", 0),
    )


_HINT = "Is this a finished run of `hgraph train` or `hgraph distill`?"


def _one_of(file: Path, key: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise DataError(f"{file}: {key}: expected one of {list(known)}, got {value[:60]!r}. {_HINT}")


def source_of(run: Path, settings: RunSettings, dataset: str | None = None) -> str:
    """The data set to load: the given one, else that of the run.

    Raises:
        DataError: the folder of the run's data is gone.
    """
    if dataset is None:
        check_source(run, settings.source)
    return dataset or settings.source


def check_run(run: Path) -> None:
    """Raise an error that says what the path is, if it is not the folder of a run.

    Raises:
        DataError: there is no such folder, or it is the folder of several seeds.
    """
    if not run.exists():
        raise DataError(f"{run}: there is no such folder. Pass a folder that `hgraph train` or `hgraph distill` wrote")
    seeds = sorted(run.glob("seed-*"))
    if (run / SEEDS_FILE).is_file() and seeds:
        raise DataError(f"{run}: the folder of {len(seeds)} seeds. Pass the run of one of them, such as {seeds[0]}")


def config_of(run: Path) -> dict[str, Any]:
    """Read the config.json of a run.

    Raises:
        DataError: the file does not exist or cannot be read.
    """
    check_run(run)
    try:
        text = (run / CONFIG).read_bytes()
    except (OSError, ValueError) as error:
        raise _not_a_run(run, error) from error
    content = parse(text, run / CONFIG, hint=_HINT)
    if not isinstance(content, dict):
        raise DataError(f"{run / CONFIG}: expected an object with keys, got {type(content).__name__}. {_HINT}")
    return content


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
        network.load_state_dict(finite(load_file(run / f"{name}.safetensors"), run / f"{name}.safetensors"))
    except (OSError, SafetensorError) as error:
        raise _not_a_run(run, error) from error
    except RuntimeError as error:
        wanted = f"{data.num_features} features and {data.num_outputs} outputs"
        raise DataError(f"{run}: the network does not match {dataset!r} with {wanted} ({error})") from error
    return network.eval()


def _not_a_run(run: Path, error: Exception) -> DataError:
    return DataError(f"{run}: not a finished run of `hgraph train` or `hgraph distill` ({error})")
