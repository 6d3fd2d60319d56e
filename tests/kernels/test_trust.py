"""A library is loaded only if no other user can have created or changed it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hgraph import errors
from hgraph.kernels import native as kernels
from hgraph.kernels import trust
from hgraph.ops.bindings import native

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    trust.secure(folder)
    path = folder / "native-0-0.so"
    path.write_bytes(b"library")
    trust.record(path, path)
    return path


def somebody_else(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let the paths belong to another user, who is not root."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)


def test_built_libraries_are_trusted(library: Path) -> None:
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    trust.check(library)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda p: p.write_bytes(b"another"), "its hash differs"),
        (lambda p: p.with_name(p.name + ".sha256").unlink(), "no recorded hash"),
        (lambda p: p.with_name(p.name + ".sha256").write_bytes(b"\xff"), "no recorded hash"),
        (lambda p: p.chmod(0o757), "writable by others"),
        (lambda p: p.chmod(0o775), "writable by others"),
        (lambda p: p.parent.chmod(0o777), "writable by everybody. chmod go-w"),
        (lambda p: p.parent.parent.chmod(0o777), "could be replaced"),
        (lambda p: (p.unlink(), p.mkdir()), "not a regular file"),
    ],
)
def test_libraries_that_others_can_change_are_rejected(library: Path, harm, reason: str) -> None:
    harm(library)
    with pytest.raises(trust.UntrustedError, match=reason):
        trust.check(library)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_libraries_of_another_user_are_rejected(library: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody_else(monkeypatch, library if which == "file" else library.parent)
    with pytest.raises(trust.UntrustedError, match=r"belongs to user \d+, not to you \(\d+\) or root"):
        trust.check(library)


def test_a_link_is_checked_as_its_target(library: Path, tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir()
    (place / library.name).write_bytes(b"library")
    trust.record(place / library.name, library)
    place.chmod(0o777)
    library.unlink()
    library.symlink_to(place / library.name)
    with pytest.raises(trust.UntrustedError, match=r"open is writable by everybody"):
        trust.check(library)


def test_group_permissions_of_the_folder_are_removed(library: Path) -> None:
    library.parent.chmod(0o770)
    trust.check(library)
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o750


def test_a_relative_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a working directory prepared by another user, a relative path would load that user's library."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HGRAPH_CACHE", "cache")
    monkeypatch.setattr(kernels, "_key", lambda: "0")
    Path("cache").mkdir(mode=0o700)
    library = Path("cache/native-0-0.so")
    library.write_bytes(b"library")
    trust.record(library, library)
    assert "not an absolute path" in native.state()
    if kernels.compiler() is not None:
        with pytest.raises(errors.BackendError, match="'cache' is not an absolute path"):
            native.build()
    with pytest.raises(trust.UntrustedError, match="not an absolute path"):
        trust.secure(Path("cache"))


def test_an_untrusted_library_is_not_opened(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGRAPH_CACHE", str(library.parent))
    monkeypatch.setattr(kernels, "_key", lambda: "0")
    opened: list[Path] = []
    monkeypatch.setattr(kernels, "_opened", opened.append)
    assert native.state() == f"available ({library})"
    library.chmod(0o777)
    assert native.state().startswith("cannot be loaded: ")
    assert opened == [library]
    older = library.with_name("native-0-1.so")  # a library of another compiler, which is trusted
    older.write_bytes(b"older")
    trust.record(older, older)
    os.utime(older, (1, 1))
    assert kernels.find() == older


def test_a_link_in_an_open_folder_is_refused(library: Path, tmp_path: Path) -> None:
    """Any user who can write to the folder of the link could create it, with the hash of its target."""
    place = tmp_path / "open"
    place.mkdir()
    (place / "native-0-9.so").symlink_to(library)
    (place / "native-0-9.so.sha256").write_bytes(library.with_name(library.name + ".sha256").read_bytes())
    assert trust.check(place / "native-0-9.so") == library.resolve()
    place.chmod(0o777)
    with pytest.raises(trust.UntrustedError):
        trust.check(place / "native-0-9.so")
