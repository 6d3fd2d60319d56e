"""A library is loaded only where nobody else can have put or changed it."""

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


def test_what_was_built_is_trusted(library: Path) -> None:
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    trust.check(library)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda p: p.write_bytes(b"another"), "its hash differs"),
        (lambda p: p.with_name(p.name + ".sha256").unlink(), "no recorded hash"),
        (lambda p: p.with_name(p.name + ".sha256").write_bytes(b"\xff"), "no recorded hash"),
        (lambda p: p.chmod(0o757), "written by users other than"),
        (lambda p: p.chmod(0o775), "written by users other than"),
        (lambda p: p.parent.chmod(0o777), "written by everybody. Check its content, then run `chmod go-w"),
        (lambda p: p.parent.parent.chmod(0o777), "could be replaced"),
        (lambda p: (p.unlink(), p.mkdir()), "not a regular file"),
    ],
)
def test_what_others_may_have_changed_is_refused(library: Path, harm, reason: str) -> None:
    harm(library)
    with pytest.raises(trust.UntrustedError, match=reason):
        trust.check(library)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_belongs_to_another_user_is_refused(library: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody_else(monkeypatch, library if which == "file" else library.parent)
    with pytest.raises(trust.UntrustedError, match=r"belongs to user \d+, not to you \(\d+\) or root"):
        trust.check(library)


def test_a_link_counts_as_what_it_names(library: Path, tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir()
    (place / library.name).write_bytes(b"library")
    trust.record(place / library.name, library)
    place.chmod(0o777)
    library.unlink()
    library.symlink_to(place / library.name)
    with pytest.raises(trust.UntrustedError, match=r"open can be written by everybody"):
        trust.check(library)


def test_a_folder_of_the_group_is_tightened(library: Path) -> None:
    library.parent.chmod(0o770)
    trust.check(library)
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o750


def test_a_relative_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a working directory that others prepared, a relative name would load their library."""
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
    older = library.with_name("native-0-1.so")  # another compiler's, which is in order
    older.write_bytes(b"older")
    trust.record(older, older)
    os.utime(older, (1, 1))
    assert kernels.find() == older
