"""What the tool starts can't be left behind, whatever is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.controlplane.errors import PortTakenError, StartError
from e2e.controlplane.process import Process, supervised


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in ("Z", "X")


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} was left behind"
        time.sleep(0.02)


def start_parent(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that itself starts a supervised sleep, in a thread that has ended."""
    script = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from e2e.controlplane.process import Process\n"
        "def start():\n"
        f"    p = Process.start('sleep', ['sleep', '600'], Path({str(tmp_path)!r}) / 'log')\n"
        "    print(p.pid, flush=True)\n"
        "t = threading.Thread(target=start); t.start(); t.join()\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as out:
        return parent, int(out.readline())


def test_it_dies_with_a_parent_that_is_killed_and_not_with_the_thread(tmp_path):
    parent, child = start_parent(tmp_path)
    time.sleep(0.7)  # longer than the supervisor's poll: the thread that started it is gone
    assert not gone(child)
    parent.kill()
    parent.wait()
    wait_until_gone(child)


def test_it_dies_with_its_supervisor(tmp_path):
    process = Process.start("sleep", ["sleep", "600"], tmp_path / "log")
    process._popen.kill()
    wait_until_gone(process.pid)
    process.wait(5)


def test_what_the_command_left_in_its_group_dies_too(tmp_path):
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {note}; exit 3"
    process = Process.start("sh", ["sh", "-c", script], tmp_path / "log")
    assert process.wait(10) == 3
    wait_until_gone(int(note.read_text()))


def test_it_watches_another_process_than_its_parent(tmp_path):
    owner = subprocess.Popen(["sleep", "600"])
    held = subprocess.Popen(
        supervised(["sleep", "600"], owner.pid), stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    with held.stdout as out:
        child = int(out.readline())
    owner.kill()
    owner.wait()
    assert held.wait(10) == 128 + signal.SIGKILL
    wait_until_gone(child)


def test_an_owner_that_is_gone_already_starts_nothing_for_long(tmp_path):
    owner = subprocess.Popen(["true"])
    owner.wait()
    held = subprocess.run(
        supervised(["sleep", "600"], owner.pid), capture_output=True, timeout=10, check=False
    )
    assert held.returncode == 128 + signal.SIGKILL


def test_stop_asks_first_and_insists_later(tmp_path):
    polite = Process.start("polite", ["sh", "-c", "trap 'exit 7' TERM; sleep 600 & wait"],
                           tmp_path / "polite")  # fmt: skip
    time.sleep(0.3)
    assert polite.stop() == 7
    deaf = Process.start("deaf", ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
                         tmp_path / "deaf")  # fmt: skip
    time.sleep(0.3)
    assert deaf.stop() == 128 + signal.SIGKILL


def test_kill_kills_the_command_itself(tmp_path):
    process = Process.start("sleep", ["sleep", "600"], tmp_path / "log")
    process.kill()
    assert process.returncode == 128 + signal.SIGKILL
    assert gone(process.pid)


def test_a_command_that_does_not_exist_says_so(tmp_path):
    process = Process.start("nothing", ["/nowhere/at/all"], tmp_path / "log")
    with pytest.raises(StartError, match=r"status 127[\s\S]*/nowhere/at/all"):
        process.wait_ready(lambda: False, 10)


def test_an_early_end_shows_the_end_of_its_log(tmp_path):
    process = Process.start("sh", ["sh", "-c", "echo out of cheese; exit 4"], tmp_path / "log")
    with pytest.raises(StartError, match=r"status 4[\s\S]*out of cheese"):
        process.wait_ready(lambda: False, 10)


def test_a_taken_port_is_told_apart(tmp_path):
    script = "echo listen: address already in use; exit 1"
    process = Process.start("sh", ["sh", "-c", script], tmp_path / "log")
    with pytest.raises(PortTakenError):
        process.wait_ready(lambda: False, 10)


def test_readiness_has_a_deadline(tmp_path):
    log = tmp_path / "log"
    process = Process.start("sh", ["sh", "-c", "echo thinking; sleep 600"], log)
    process.wait_ready(lambda: "thinking" in log.read_text(), 30)
    with pytest.raises(StartError, match=r"not ready after[\s\S]*thinking"):
        process.wait_ready(lambda: False, 0.5)
    assert process.stop() >= 128
    assert gone(process.pid)
    assert os.getpid()
