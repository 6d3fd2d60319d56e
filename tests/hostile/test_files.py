"""What a command is told to write over, and disks and streams that do not take it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hgraph import files
from hgraph.cli import common, runs
from hgraph.cli.app import app
from hgraph.distill import export
from hgraph.errors import ArgumentError
from hgraph.models import MLP
from hgraph.train import seeded


@pytest.fixture
def student(tmp_path):
    with seeded(0):
        export(MLP(2, 4, 2).eval(), tmp_path / "s", torch.randn(9, 2), feature_names=["a", "b"])
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    return tmp_path / "s"


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---------------------------------------------------------------------- what is there already

OUTS = {
    "its input": ("rows.csv", "a file other than the input"),
    "a link to its input": ("link.csv", "a file other than the input"),
    "a hard link to its input": ("hard.csv", "a file other than the input"),
    "the student's card": ("s/student.json", "not part of the run"),
    "the student": ("s/student.safetensors", "not part of the run"),
    "a link to the student": ("student-link", "not part of the run"),
    "a folder": ("s", "which is a folder"),
    "nothing": ("", "which is a folder"),
    "a folder that is not there": ("nowhere/answers.csv", "a file in an existing folder"),
    "a file's inside": ("rows.csv/answers.csv", "a file in an existing folder"),
}


@pytest.mark.parametrize("kind", OUTS)
def test_predict_does_not_write_over(kind, student, monkeypatch):
    folder = student.parent
    monkeypatch.chdir(folder)
    Path("link.csv").symlink_to("rows.csv")
    os.link("rows.csv", "hard.csv")
    Path("student-link").symlink_to("s/student.safetensors")
    before = everything(folder)
    out, message = OUTS[kind]
    result = call("predict", "s", "rows.csv", "--out", out)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert everything(folder) == before


def test_predict_writes_where_it_may(student, monkeypatch):
    folder = student.parent
    monkeypatch.chdir(folder)
    expected = call("predict", "s", "rows.csv").stdout
    assert call("predict", "s", "rows.csv", "--out", "-").stdout == expected
    Path("kept.csv").write_text("older", encoding="utf-8")
    Path("link").symlink_to("kept.csv")
    for out in ("new.csv", "kept.csv", "link", "s/answers.csv", "s/answers.csv"):
        assert call("predict", "s", "rows.csv", "--out", out).exit_code == 0
        assert Path(out).read_text(encoding="utf-8") == expected
    assert Path("link").is_symlink()
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_is_written_to_and_stays(student):
    fifo = student.parent / "fifo"
    os.mkfifo(fifo)
    read = []
    thread = threading.Thread(target=lambda: read.append(fifo.read_text(encoding="utf-8")))
    thread.start()
    result = call("predict", student, student.parent / "rows.csv", "--out", fifo)
    thread.join(20)
    assert result.exit_code == 0
    assert read == [call("predict", student, student.parent / "rows.csv").stdout]
    assert fifo.is_fifo()


def test_a_planted_name_is_not_followed(tmp_path, monkeypatch):
    """Whoever guessed the temporary name gets nothing written through a link of his."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 8)
    victim = tmp_path / "victim"
    victim.write_text("his", encoding="utf-8")
    (tmp_path / ".out.00000000.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write_atomically(tmp_path / "out", b"mine")
    assert victim.read_text(encoding="utf-8") == "his"


def test_two_writers_do_not_mix(tmp_path):
    path = tmp_path / "out"
    with files.writing(path) as one, files.writing(path) as other:
        one.write("1" * 100_000)
        other.write("2" * 50_000)
    assert path.read_text(encoding="utf-8") == "1" * 100_000  # who ends last
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_killed_writers_left_is_told_from_what_is_being_written(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "out"
    left, other = tmp_path / ".out.0123abcd.tmp", tmp_path / ".out.x.0123abcd.tmp"
    (tmp_path / "victim").write_text("mine", encoding="utf-8")
    for name in (left, other, tmp_path / ".out.mine.tmp"):
        name.touch()
    (tmp_path / ".out.01234567.tmp").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / ".out.76543210.tmp")
    (tmp_path / ".out.abcdabcd.tmp").mkdir()
    with files.writing(path) as file, files.temporary_folder(path) as folder:
        files.write_atomically(path, b"another")
        assert folder.is_dir()
        file.write("last")
    assert path.read_text(encoding="utf-8") == "last"
    assert {p.name for p in tmp_path.iterdir()} == {"out", "victim", other.name, ".out.mine.tmp", ".out.01234567.tmp"}


@pytest.mark.skipif(os.name == "nt", reason="no umask on this system")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_readable_as_the_umask_allows(mask, tmp_path):
    before = os.umask(mask)
    try:
        with seeded(0):
            export(MLP(2, 4, 2).eval(), tmp_path / "s", torch.randn(9, 2))
        files.write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind on this system")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "private"
    path.write_text("old", encoding="utf-8")
    path.chmod(mode)
    with files.writing(path, "wb") as file:
        file.write(b"new")
        (temporary,) = (p for p in tmp_path.iterdir() if p != path)
        assert temporary.stat().st_mode & 0o777 == mode  # never readable by more people, whenever it is killed
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)


@pytest.mark.parametrize("name", ["n" * 255, "n" * 242, "n" * 241, "é" * 127])
def test_the_longest_names_can_be_written(name, tmp_path):
    """The temporary name is longer than that of the file; a killed writer's file is found again."""
    left = tmp_path / f"{files._stem(tmp_path / name)}01234567.tmp"
    left.write_bytes(b"half")
    files.write_atomically(tmp_path / name, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"whole"


# ---------------------------------------------------------------------- run folders

FOREIGN = {
    "another program's": {"config.json": "{}", "model.safetensors": "weights"},
    "a report of something else": {"report.md": "# Mine"},
    "one file": {"thesis.tex": "text"},
    "hidden": {".git/HEAD": "ref"},
    "broken JSON": {"config.json": "{"},
    "a list": {"config.json": "[]"},
}


def test_a_recipe_is_not_written_among_others_files(tmp_path):
    (tmp_path / "report.md").write_text("# Mine", encoding="utf-8")
    result = call("reproduce", "lighthgnn", "--only", "cora", "--seeds", 1, "--epochs", 1, "--out", tmp_path)
    assert result.exit_code == 2
    assert "out: expected a new or empty folder, or a run folder" in result.stderr
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == "# Mine"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_a_search_is_not_written_among_others_files(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    before = everything(tmp_path)
    result = call("tune", "karate", "--model", "gcn", "--trials", 1, "--epochs", 1, "--out", tmp_path)
    assert result.exit_code == 2
    assert "out: expected a new or empty folder" in result.stderr
    assert everything(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_run_is_not_written_among_others_files(kind, overwrite, tmp_path):
    for name, text in FOREIGN[kind].items():
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    before = everything(tmp_path)
    with (
        pytest.raises(ArgumentError, match="out: expected a new or empty folder"),
        runs.running(tmp_path / "out", {}, overwrite=overwrite),
    ):
        pytest.fail("it began")
    assert everything(tmp_path) == before


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    folder = tmp_path / "run"
    with runs.running(folder, {}, overwrite=False):
        (folder / "during.txt").write_text("mine", encoding="utf-8")
        (folder / "report.md").write_text("first", encoding="utf-8")
        (folder / "student").mkdir()
        (folder / "student" / "old.onnx").write_text("first", encoding="utf-8")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with runs.running(folder, {}, overwrite=True):
        assert [p for p in everything(folder) if not p.startswith(("under_way", "."))] == ["during.txt", "notes.txt"]
        (folder / "report.md").write_text("second", encoding="utf-8")
    with runs.running(folder, {}, overwrite=True):
        pass
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["../victim", "/etc/hostname", "a/../../victim", "link/victim"])
def test_a_manifest_removes_nothing_outside(name, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    (folder / "link").symlink_to(tmp_path)
    (folder / runs.MANIFEST).write_text(json.dumps({"files": [name]}), encoding="utf-8")
    with runs.running(folder, {}, overwrite=True):
        pass
    assert victim.read_text(encoding="utf-8") == "mine"
    assert Path("/etc/hostname").exists() or name != "/etc/hostname"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": 3}', '{"files": [3, null]}', "\x00"])
def test_a_damaged_manifest_removes_nothing(text, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / runs.MANIFEST).write_text(text, encoding="utf-8")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with runs.running(folder, {}, overwrite=True):
        pass
    assert (folder / "notes.txt").exists()


def test_what_a_killed_writer_left_goes(tmp_path):
    with pytest.raises(RuntimeError), runs.running(tmp_path, {"seed": 0}, overwrite=False):
        for name in (".metrics.jsonl.0123abcd.tmp", ".mine.tmp", "a.0123abcd.tmp"):
            (tmp_path / name).touch()
        raise RuntimeError
    with runs.running(tmp_path, {"seed": 0}, overwrite=False):
        assert {p.name for p in tmp_path.glob("*.tmp")} == {".mine.tmp", "a.0123abcd.tmp"}


@pytest.mark.parametrize("moment", ["its manifest is written", "its report is written", "its checkpoints are removed"])
def test_a_run_that_was_killed_while(moment, tmp_path):
    """The same command finishes it, and the user's files stay the user's."""
    folder = tmp_path / "killed"
    (folder / runs.UNDER_WAY).mkdir(parents=True)
    if moment == "its manifest is written":
        (folder / "..hgraph.json.0123abcd.tmp").touch()
    else:
        (folder / "mine.md").touch()
        runs.write_json(folder / runs.UNDER_WAY / runs.FACTS, {"seed": 0})
        runs.write_json(folder / runs.MANIFEST, {"files": [], "others": ["mine.md"]})
        (folder / "report.md").touch()
    if moment == "its checkpoints are removed":
        runs.write_json(folder / runs.MANIFEST, {"files": ["report.md"], "others": ["mine.md"]})
    runs.check_folder(folder, overwrite=False)
    with runs.running(folder, {"seed": 0}, overwrite=False):
        (folder / "report.md").touch()
    manifest = json.loads((folder / runs.MANIFEST).read_bytes())
    assert manifest["files"] == ["report.md"]
    assert {p.name for p in folder.iterdir()} - {"mine.md"} == {runs.MANIFEST, "report.md"}
    with pytest.raises(ArgumentError, match="which holds a finished run"):
        runs.check_folder(folder, overwrite=False)


def test_one_process_writes_a_run(tmp_path):
    pytest.importorskip("fcntl")
    with runs.running(tmp_path, {}, overwrite=False):
        script = f"from hgraph.cli import runs; runs.running({str(tmp_path)!r} and __import__('pathlib').Path({str(tmp_path)!r}), {{}}, overwrite=True).__enter__()"  # noqa: E501
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "no other process is writing to" in done.stderr
    with runs.running(tmp_path, {}, overwrite=True):
        pass


# ---------------------------------------------------------------------- disks and streams


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EIO, errno.EDQUOT])
def test_a_disk_that_does_not_take_it_is_one_line(number, student, monkeypatch):
    out = student.parent / "out.csv"
    out.write_text("older", encoding="utf-8")

    def fails(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fails)
    result = call("predict", student, student.parent / "rows.csv", "--out", out)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"hgraph: error: {out}: {os.strerror(number)}"
    assert out.read_text(encoding="utf-8") == "older"
    assert not list(student.parent.glob(".*"))


def command(*arguments, **options):
    begin = [sys.executable, "-m", "hgraph", *map(str, arguments)]
    return subprocess.run(begin, capture_output="stdout" not in options, text=True, check=False, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("arguments", [("papers",), ("datasets", "list"), ("--help",)])
def test_a_full_standard_output_is_an_error(arguments):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = command(*arguments, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode not in (0, 120)
    assert "Traceback" not in done.stderr
    assert "standard output: No space left" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(("closed", "code"), [("0<&-", 0), ("2>&-", 0), ("1>&-", 1)])
def test_closed_streams(closed, code, tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m hgraph papers {closed}", shell=True, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == (code != 0), done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert "standard output" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("closed", [">&-", "> /dev/full"])
def test_an_output_that_cannot_be_printed_is_said_in_one_line(closed):
    """Also by a command whose own error has said it: the interpreter would add two lines at exit."""
    line = f"{sys.executable} -m hgraph datasets info karate {closed}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode not in (0, 120), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_a_reader_that_left(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m hgraph papers | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_error_without_a_cause_is_a_bug_and_shows_where():
    @common.plain_errors
    def broken():
        raise OSError

    with pytest.raises(OSError, match="^$"):
        broken()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_errors_of_devices_and_names_name_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"), files.writing("/dev/full") as file:
        file.write("x" * 100_000)
    with pytest.raises(ArgumentError, match="names of at most 255, got 300 bytes"):
        files.write_atomically(tmp_path / ("x" * 300), b"")


def test_checkpoints_behind_a_link_are_not_removed(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / runs.UNDER_WAY).symlink_to(tmp_path / "other")
    with pytest.raises(ArgumentError, match="is a link"), runs.running(tmp_path / "run", {}, overwrite=True):
        pass
    assert (tmp_path / "other" / "mine").exists()


@pytest.mark.parametrize("key", ["source", "dataset"])
def test_the_data_of_a_run_are_not_written_over(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("shop", "run"):
        Path(folder).mkdir()
    Path("shop/interactions.csv").write_text("user,item\n", encoding="utf-8")
    Path("run/curve.png").touch()
    Path("run/config.json").write_text(json.dumps({key: "shop"}), encoding="utf-8")
    Path("link.csv").symlink_to("shop/interactions.csv")
    for out in ("shop/interactions.csv", "link.csv"):
        with pytest.raises(ArgumentError, match="not part of the run's data"):
            common.check_file("out", Path(out), run=Path("run"))
    common.check_file("out", Path("shop/items.csv"), run=Path("run"))  # a new file may lie there
    with pytest.raises(ArgumentError, match="draw: expected a file that is not part of the run"):
        common.check_picture("draw", Path("run/curve.png"), run=Path("run"))
    common.check_picture("draw", Path("run/why.png"), run=Path("run"))
