"""Entry point of the ``hgraph`` command: handles closed streams, and prints no traceback when it is interrupted."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``hgraph`` command."""
    code = 1
    try:
        _open_streams()
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
        _say("hgraph: stopped. Run the same command to resume from the last checkpoint")
    except OSError as error:  # the last output found a full disk or no reader
        code = code or 1
        _say(f"hgraph: error: standard output: {error.strerror or error}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise the interpreter's flush prints a traceback
    sys.exit(code)


def _run() -> int:
    try:
        from hgraph.cli.app import main as command  # imported here because it is slow and Ctrl-C must work

        command()
    except SystemExit as end:
        if end.code == 130:
            raise KeyboardInterrupt from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _open_streams() -> None:
    """Reopen closed standard streams; otherwise a file could get their descriptor and receive printed text."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/full" if name == "stdout" and os.path.exists("/dev/full") else os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
