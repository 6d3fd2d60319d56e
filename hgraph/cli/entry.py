"""Entry point of the ``hgraph`` command: handles closed streams, and prints no traceback when it is interrupted."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

__all__ = ["main"]

_CLOSED = 141  # 128 + SIGPIPE, the exit status of a program whose reader has gone


def main() -> None:
    """Entry point of the ``hgraph`` command."""
    code = 1
    _open_streams()
    try:
        code = _run()
    except KeyboardInterrupt:
        code = 130
        _say("hgraph: stopped. Run the same command again to resume from the last checkpoint")
    except OSError as error:
        if error.filename or error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO):
            raise
        code = _unprinted(error, 0)
    try:
        sys.stdout.flush()
    except OSError as error:  # the disk is full or the reader has closed the pipe
        code = _unprinted(error, code)
    sys.exit(code)


def _unprinted(error: OSError, code: int) -> int:
    """The exit status; says what happened, unless the command has failed and said so already."""
    closed = error.errno == errno.EPIPE  # `hgraph ... | head` has seen enough: no error, as for other programs
    if not closed and not code:
        _say(f"hgraph: error: standard output: {error.strerror or error}")
    # otherwise the interpreter flushes again at exit and prints a traceback
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code or (_CLOSED if closed else 1)


def _run() -> int:
    try:
        from hgraph.cli.app import main as command  # imported here because it is slow and Ctrl-C must work

        command()
    except SystemExit as end:
        if end.code == 130:
            raise KeyboardInterrupt from None
        if end.code == 1 and type(sys.stdout).__name__ == "PacifyFlushWrapper":  # typer's, once the reader has gone
            return _CLOSED
        if isinstance(end.code, str):
            _say(end.code)
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
