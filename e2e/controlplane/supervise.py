"""Run one command that cannot outlive the process that wanted it.

Started as a program of its own (``python -I -S supervise.py WATCHED_PID -- COMMAND…``),
it prints the command's pid, then waits for whichever ends first: the command, whose
exit status it passes on, or the watched process, after which the command is killed.
The command in turn is killed by the kernel when the supervisor goes
(``PR_SET_PDEATHSIG``), so neither can be left behind, whatever is killed with -9.

Why not ``PR_SET_PDEATHSIG`` alone: it follows the *thread* that forked, and a thread
pool's thread may end long before its process. Only the standard library is imported
here, and little of it: one of these runs beside every process of the control plane.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_POLL_MS = 500
_GRACE_SECONDS = 5.0
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _watch(pid: int) -> int | None:
    """Return a pidfd, or None where the kernel has none; raises ProcessLookupError."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # a kernel or sandbox without pidfd: polling does
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _spawn(command: list[str], libc: ctypes.CDLL) -> int:
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # by whom it is done first doesn't matter
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        for number in _FORWARDED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        out = os.dup(2)  # stdout was the pid's channel: the command logs to one place
        os.dup2(out, 1)
        os.close(out)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    os._exit(127)


def _kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        os.kill(pid, number)


def _wait(pid: int, watched: int, asked: list[float]) -> int:
    """Return the command's wait status; kill it when the watched process is gone."""
    poll = select.poll()
    watched_fd, child_fd = _watch(watched), _watch(pid)
    for fd in (watched_fd, child_fd):
        if fd is not None:
            poll.register(fd, select.POLLIN)
    while True:
        poll.poll(_POLL_MS)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        gone = _readable(watched_fd) if watched_fd is not None else not _alive(watched)
        if gone or (asked and time.monotonic() - asked[0] > _GRACE_SECONDS):
            _kill_group(pid, signal.SIGKILL)


def _readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def _forward(pid: int) -> list[float]:
    """Pass signals on; the list fills with the times at which one was asked for."""
    asked: list[float] = []

    def handle(number: int, _frame: object) -> None:
        asked.append(time.monotonic())
        _kill_group(pid, number)

    for number in _FORWARDED:
        signal.signal(number, handle)
    return asked


def main(arguments: list[str]) -> int:
    """Supervise; returns the exit status for the supervisor itself."""
    watched, command = int(arguments[0]), arguments[2:]
    pid = _spawn(command, ctypes.CDLL(None, use_errno=True))
    asked = _forward(pid)
    os.write(1, f"{pid}\n".encode())
    os.close(1)
    try:
        status = _wait(pid, watched, asked)
    except ProcessLookupError:  # the watched process was gone before we looked
        _kill_group(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    _kill_group(pid, signal.SIGKILL)  # what the command left behind in its group
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
