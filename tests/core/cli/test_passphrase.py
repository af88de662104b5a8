"""At a terminal, the passphrase is asked for and not shown."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from trailgate.evidence import keys

# Makes its standard input the controlling terminal, as a login shell does.
AT_TERMINAL = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "sys.argv[0] = 'trailgate'; from trailgate.cli.main import main; main()"
)


def converse(arguments, *answers):
    """Run the command at a terminal of its own; answer each prompt; what it said, its code."""
    outer, inner = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "TRAILGATE_KEY_PASSPHRASE"}
    process = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, *map(str, arguments)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        env=environment,
    )
    os.close(inner)
    said, waiting, end = b"", list(answers), time.monotonic() + 30
    try:
        while time.monotonic() < end:
            if not select.select([outer], [], [], 0.5)[0]:
                continue
            try:
                said += os.read(outer, 4096)
            except OSError:  # the other side has closed it
                break
            if waiting and waiting[0][0] in said:
                os.write(outer, waiting.pop(0)[1] + b"\n")
        return said, process.wait(timeout=5)
    finally:
        os.close(outer)
        process.kill()
        process.wait()


@pytest.mark.parametrize("secret", [b"correct horse", b""])
def test_a_new_key_asks_twice(tmp_path, secret):
    said, code = converse(
        ["key", "generate", "--out", tmp_path / "k"],
        (b"(empty for none):", secret),
        (b"Repeat for confirmation:", secret),
    )
    assert code == 0, said
    assert not secret or secret not in said
    assert keys.load_private_key((tmp_path / "k.key").read_bytes(), secret or None)


def test_an_existing_key_asks_once(tmp_path):
    path = tmp_path / "k.key"
    path.write_bytes(keys.private_pem(keys.generate(), b"right"))
    # Nothing listens there: the key is opened before the registry is asked.
    sign = ["sign", "127.0.0.1:1/a:b", "--allow-insecure-registry", "127.0.0.1:1", "--key", path]
    said, code = converse(sign, (b"k.key:", b"wrong"))
    assert (code, b"does not open the key" in said) == (2, True), said
    said, code = converse(sign, (b"k.key:", b"right"))
    assert (code, b"127.0.0.1:1: " in said) == (3, True), said
    assert b"right" not in said
