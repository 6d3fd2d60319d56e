"""`tune`: settings looked for by trial, with a pruner, in a study that survives a kill."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hgraph.errors import ArgumentError, MissingPackageError

__all__ = ["Choice", "Range", "TuneResult", "tune"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    Args:
        low: the least.
        high: the largest, more than ``low``.
        log: whether factors count rather than differences (step sizes, penalties); then ``low`` is above 0.
        whole: whole numbers alone.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any, name: str) -> float:
        """What a trial takes."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """What a trial takes."""
        return trial.suggest_categorical(name, list(self.values))


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Args:
        settings: the best ones.
        score: theirs.
        trials: one dict a trial: ``number``, ``state`` (complete, pruned, failed), ``score``, ``settings``.
    """

    settings: dict[str, Any]
    score: float
    trials: list[dict[str, Any]]


def tune(
    train: Callable[[dict[str, Any], Callable[[int, float], None]], float],
    space: Mapping[str, Range | Choice],
    *,
    trials: int = 30,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> TuneResult:
    """Search a declared space for the settings with the highest score.

    Each trial trains once with what a tree of Parzen estimators suggests; one whose score after so many epochs is below
    the median of the trials before it is given up. The same seed suggests the same settings to the same scores.

    Args:
        train: ``train(settings, report)`` returns the score, higher is better. ``report(epoch, score)``, called in each
            epoch, ends a trial that is given up by raising: let it pass.
        space: names of settings and what they may be.
        trials: how many, those of a study that goes on counted in.
        folder: where the study is kept: ``study.jsonl`` there grows by each event, and a stopped search goes on.
            None keeps nothing.
        seed: of the suggestions.
        about: what else makes scores comparable, by name: a study that goes on must have been begun with the same.

    Raises:
        ArgumentError: an empty space, a range that is none, or no trial that ended with a score; or a study in the
            folder that is of another space, or about something else.
        MissingPackageError: without the package of ``hgraph[tune]``.

    Source: Akiba et al., "Optuna", 2019.
    """
    _check(space, trials)
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError("optuna", "tune", "tuning") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = None
    if folder is not None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        Path(folder).mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(Path(folder) / "study.jsonl")))
    study = optuna.create_study(
        study_name="hgraph",
        direction="maximize",
        storage=storage,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=10),
    )
    _same(study, {**(about or {}), "space": str(dict(space))}, folder)

    def one(trial: Any) -> float:
        def report(epoch: int, score: float) -> None:
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        return train({name: kind.suggest(trial, name) for name, kind in space.items()}, report)

    left = trials - len([t for t in study.trials if t.state.is_finished()])
    if left > 0:
        study.optimize(one, n_trials=left)
    found = [_plain(t) for t in study.trials if t.state.is_finished()]
    ended = [t for t in found if t["state"] == "complete"]
    if not ended:
        raise ArgumentError("trials", "at least one that ends with a score", f"{len(found)} without")
    best = max(ended, key=lambda t: t["score"])
    return TuneResult(best["settings"], best["score"], found)


def _same(study: Any, facts: dict[str, Any], folder: Any) -> None:
    """Refuse to mix trials that cannot be compared; a study that begins is told what it is about."""
    before = study.user_attrs
    for name, value in facts.items():
        if before and before.get(name) != value:
            expected = f"{before.get(name)!r}, as the search that {folder} holds"
            raise ArgumentError(name, expected, repr(value), "Give the same, or another folder")
    for name, value in facts.items():
        study.set_user_attr(name, value)


def _check(space: Mapping[str, Range | Choice], trials: int) -> None:
    if not space:
        raise ArgumentError("space", "at least one setting", "none")
    for name, kind in space.items():
        if isinstance(kind, Choice) and not kind.values:
            raise ArgumentError(f"space[{name!r}]", "at least one value", "none")
        if isinstance(kind, Range) and not (math.isfinite(kind.low) and kind.low < kind.high < math.inf):
            raise ArgumentError(f"space[{name!r}]", "low below high, both finite", f"{kind.low} .. {kind.high}")
        if isinstance(kind, Range) and kind.log and kind.low <= 0:
            raise ArgumentError(f"space[{name!r}]", "low above 0 where factors count", kind.low)
    if trials < 1:
        raise ArgumentError("trials", "1 or more", trials)


def _plain(trial: Any) -> dict[str, Any]:
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    score = trial.value if state == "complete" else None
    return {"number": trial.number, "state": state, "score": score, "settings": json.loads(json.dumps(trial.params))}
