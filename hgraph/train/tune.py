"""`tune`: a search for hyperparameters with pruning, saved so that it can be resumed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from hgraph.errors import ArgumentError, DataError, HgraphError, MissingPackageError
from hgraph.files import try_lock
from hgraph.schema import Span, fields_of, parse

__all__ = ["Choice", "Range", "TuneResult", "require_optuna", "tune"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    Args:
        low: the smallest number.
        high: the largest number, greater than ``low``.
        log: whether to search on a log scale (learning rates, penalties); then ``low`` is above 0.
        whole: whether to search only whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any, name: str) -> float:
        """Suggest a value for a trial."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Suggest a value for a trial."""
        return trial.suggest_categorical(name, list(self.values))


@dataclass(frozen=True)
class TuneResult:
    """Result of a search.

    Args:
        settings: the best settings.
        score: their score.
        trials: one dict per trial: ``number``, ``state`` (complete, pruned, failed), ``score``, ``settings``.
    """

    settings: dict[str, Any]
    score: float
    trials: list[dict[str, Any]]


def require_optuna() -> None:
    """Raise an error before any work if optuna is missing.

    Raises:
        MissingPackageError: optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("optuna", "tune", "tuning") from error


def tune(
    train: Callable[[dict[str, Any], Callable[[int, float], None]], float],
    space: Mapping[str, Range | Choice],
    *,
    trials: int = 30,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> TuneResult:
    """Search a space for the settings with the highest score.

    Each trial trains once with the settings that a tree-structured Parzen estimator suggests. It is pruned if its score
    is below the median of earlier trials at the same epoch. With equal seeds and scores, suggestions are equal.

    Args:
        train: ``train(settings, report)`` returns the score, higher is better. Call ``report(epoch, score)`` in each
            epoch; it raises an exception to prune the trial, which ``train`` must not catch.
        space: name of a setting -> its possible values.
        trials: total number of trials, including those of a resumed study.
        folder: folder for ``study.jsonl``, from which a stopped search resumes; None saves nothing.
        seed: seed of the suggestions.
        about: other settings that scores depend on; a study can only be resumed with the same ones.

    Raises:
        ArgumentError: the space or a range is empty, no trial ended with a score, or the study in the folder has
            another space or other settings, or another process is writing to it.
        MissingPackageError: optuna is not installed.

    Source: Akiba et al., "Optuna", 2019.
    """
    _check(space, trials)
    require_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = None if folder is None else Path(folder) / "study.jsonl"
    with _held(file), _reading(file):
        study = optuna.create_study(
            study_name="hgraph",
            direction="maximize",
            storage=None if file is None else _storage(file),
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=10),
        )
        _check_same(study, {**(about or {}), "space": str(dict(space))}, folder)
        while sum(t.state.is_finished() for t in study.trials) < trials:
            _run_trial(study, train, space, seed, file)
    found = [_plain(t) for t in study.trials if t.state.is_finished()]
    complete = [t for t in found if t["state"] == "complete"]
    if not complete:
        raise ArgumentError("trials", "at least one trial that ends with a score", f"{len(found)} without a score")
    best = max(complete, key=lambda t: t["score"])
    return TuneResult(best["settings"], best["score"], found)


def _run_trial(
    study: Any,
    train: Callable[[dict[str, Any], Callable[[int, float], None]], float],
    space: Mapping[str, Range | Choice],
    seed: int,
    file: Path | None,
) -> None:
    """Run the next trial; one that is interrupted leaves no trace, so that it runs again."""
    import optuna

    def one(trial: Any) -> float:
        def report(epoch: int, score: float) -> None:
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        return train({name: kind.suggest(trial, name) for name, kind in space.items()}, report)

    # A generator per trial: a resumed search suggests what an uninterrupted one does.
    number = np.random.SeedSequence((seed, len(study.trials))).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(number[0]))
    size = None if file is None else file.stat().st_size
    try:
        study.optimize(one, n_trials=1)
    except (KeyboardInterrupt, SystemExit):
        if file is not None and size is not None:
            os.truncate(file, size)
        raise


@dataclass(frozen=True)
class _Line:
    """The keys that every line of a study has."""

    op_code: Annotated[int, Span(0, 99)]
    worker_id: str


_CREATE_TRIAL, _SET_STATE = 4, 6  # of optuna's JournalOperation
_UNFINISHED = (0, 4)  # of optuna's TrialState: running, waiting
_FIRST = b'{"op_code":'


class _NoLock:
    """Lock of a journal that this process holds already; those of optuna outlive a killed process."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def _held(file: Path | None) -> Iterator[None]:
    """Hold the file of a study, so that no other process adds trials to it.

    Raises:
        ArgumentError: another process holds it.
    """
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "ab") as opened:
        if try_lock(opened.fileno()) is False:
            hint = "Wait until it is done, or choose another folder"
            raise ArgumentError("folder", "a folder that no other search is writing to", str(file.parent), hint)
        yield


def _storage(file: Path) -> Any:
    """The storage of a study, without the trial that a killed search left unfinished."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    os.truncate(file, _finished_size(file))
    lock: Any = _NoLock()
    return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))


def _finished_size(file: Path) -> int:
    """The bytes of a study without a last line or trial that is not complete; checks all other lines.

    Raises:
        DataError: a line is not one of a study.
    """
    lines = file.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n") and (len(lines) > 1 or _FIRST.startswith(lines[0][: len(_FIRST)])):
        lines.pop()
    size, begun = 0, None
    for number, line in enumerate(lines, 1):
        place = f"{file}:{number}"
        content = parse(line, place, hint=_HINT)
        kind = fields_of(_Line, content, place, hint=_HINT).op_code
        begun = size if kind == _CREATE_TRIAL else begun
        size += len(line)
        if kind == _SET_STATE and content.get("state") not in _UNFINISHED:
            begun = None
    return size if begun is None else begun


_HINT = "Delete the file to start over"


@contextmanager
def _reading(file: Path | None) -> Iterator[None]:
    """Turn the errors of a damaged study into one that names the file."""
    try:
        yield
    except HgraphError:
        raise
    except Exception as error:  # optuna replays the lines and raises whatever they cause
        if file is None:
            raise
        raise DataError(f"{file}: not a readable study ({type(error).__name__}: {error}). {_HINT}") from error


def _check_same(study: Any, settings: dict[str, Any], folder: Any) -> None:
    """Save the settings in a new study, and check that a resumed study has the same ones."""
    before = study.user_attrs if study.trials else {}
    for name, value in settings.items():
        if before and before.get(name) != value:
            expected = f"{before.get(name)!r}, the value of the search in {folder}"
            raise ArgumentError(name, expected, repr(value), "Use the same value, or choose another folder")
    for name, value in settings.items():
        study.set_user_attr(name, value)


def _check(space: Mapping[str, Range | Choice], trials: int) -> None:
    if not space:
        raise ArgumentError("space", "at least one setting", "none")
    for name, kind in space.items():
        if isinstance(kind, Choice) and not kind.values:
            raise ArgumentError(f"space[{name!r}]", "at least one value", "none")
        if isinstance(kind, Range) and not (math.isfinite(kind.low) and kind.low < kind.high < math.inf):
            raise ArgumentError(f"space[{name!r}]", "low < high, both finite", f"{kind.low} .. {kind.high}")
        if isinstance(kind, Range) and kind.log and kind.low <= 0:
            raise ArgumentError(f"space[{name!r}]", "low > 0 on a log scale", kind.low)
    if trials < 1:
        raise ArgumentError("trials", "1 or more", trials)


def _plain(trial: Any) -> dict[str, Any]:
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    score = float(trial.value) if state == "complete" else None
    return {"number": trial.number, "state": state, "score": score, "settings": json.loads(json.dumps(trial.params))}
