"""Starts the real programs quickly: imports them once, then forks for each start.

A start of Python with all that the operator imports takes a second or two; two
hundred of them would be most of the tests' time. What runs in the child is the
program's own ``main``, in a process of its own, until it ends or is killed.

One JSON line in: ``{"id", "program", "arguments", "log"}``. Lines out:
``{"id", "pid"}`` and ``{"pid", "status"}``. It ends when its input ends, and
its children with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path

from e2e.controlplane.process import Process

PROGRAMS = {"operator": "trailgate_operator.main", "webhook": "trailgate_webhook.main"}
_PR_SET_PDEATHSIG = 1
_ROOT = Path(__file__).parents[2]


def _say(**what):
    os.write(1, json.dumps(what).encode() + b"\n")


def _child(order, parent):
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    status = 1
    try:
        name = PROGRAMS[order["program"]]
        sys.argv = [f"trailgate-{order['program']}", *order["arguments"]]
        importlib.import_module(name).main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  as the interpreter itself would
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _reap():
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(pid=pid, status=os.waitstatus_to_exitcode(status))


def serve():
    for name in PROGRAMS.values():
        importlib.import_module(name)
    for late in (
        "trailgate_operator.service",
        "kubernetes.aio.config.kube_config",
        "kubernetes.aio.client.rest",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(late)
    assert threading.active_count() == 1, "a fork copies one thread"
    gc.collect()
    gc.freeze()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    _say(ready=True)
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap()
        if 0 not in ready:
            continue
        read = os.read(0, 65536)
        if not read:
            return
        *lines, pending = (pending + read).split(b"\n")
        for line in lines:
            order, parent = json.loads(line), os.getpid()
            pid = os.fork()
            if pid == 0:
                _child(order, parent)
            _say(id=order["id"], pid=pid)


class Child:
    """One started program."""

    def __init__(self, name, pid, log):
        self.name, self.pid, self.log = name, pid, log
        self.ended = asyncio.get_running_loop().create_future()
        """Its exit status; negative: the signal that killed it."""

    @property
    def alive(self):
        return not self.ended.done()

    def signal(self, number):
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self):
        self.signal(signal.SIGKILL)
        return await asyncio.wait_for(asyncio.shield(self.ended), 10)

    async def stop(self, seconds=20):
        self.signal(signal.SIGTERM)
        return await asyncio.wait_for(asyncio.shield(self.ended), seconds)

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Installed:
    """The installed command, each start from nothing; used like a ``Child``."""

    def __init__(self, name, process):
        self.name, self.pid, self.log, self._process = name, process.pid, process.log, process

    @classmethod
    async def start(cls, program, arguments, log, name):
        command = [Path(sys.executable).with_name(f"trailgate-{program}"), *arguments]
        return cls(name, await asyncio.to_thread(Process.start, name, command, log))

    @property
    def alive(self):
        return self._process.returncode is None

    async def kill(self):
        await asyncio.to_thread(self._process.kill)

    async def stop(self, seconds=20):
        return await asyncio.to_thread(self._process.stop, seconds)

    def text(self):
        return self.log.read_text(errors="replace")


class Nursery:
    """The test's side: ``async with Nursery() as nursery``."""

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.nursery",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(
                str(_ROOT / part) for part in (".", "core", "kube", "operator", "webhook")
            )},
        )  # fmt: skip
        self._orders, self._waiting, self._children = 0, {}, {}
        self._early = {}
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        await asyncio.wait_for(self._ready, 60)
        return self

    async def __aexit__(self, *_):
        self._process.stdin.close()
        await self._process.wait()
        await self._reader
        for child in self._children.values():
            if child.alive:
                child.ended.set_result(-signal.SIGKILL)

    async def start(self, program, arguments, log, name=None):
        self._orders += 1
        order = {
            "id": self._orders, "program": program,
            "arguments": [str(one) for one in arguments], "log": str(log),
        }  # fmt: skip
        self._waiting[self._orders] = started = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        pid = await asyncio.wait_for(started, 10)
        child = self._children[pid] = Child(name or program, pid, log)
        if pid in self._early:
            child.ended.set_result(self._early.pop(pid))
        return child

    async def _read(self):
        async for line in self._process.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._ready.set_result(True)
            elif "status" in said:
                child = self._children.pop(said["pid"], None)
                if child is None:
                    self._early[said["pid"]] = said["status"]
                else:
                    child.ended.set_result(said["status"])
            else:
                self._waiting.pop(said["id"]).set_result(said["pid"])


if __name__ == "__main__":
    serve()
