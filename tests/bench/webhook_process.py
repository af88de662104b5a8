# ruff: noqa: T201, PLR0917
"""What the admission benchmarks share: certificates, server processes, CPU time, the load."""

import contextlib
import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def issue(directory, name="localhost"):
    """Write a fresh self-signed pair ``tls.crt``, ``tls.key`` (and ``ca.crt``, the same)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "ca.crt").write_bytes(pem)
    (directory / "tls.crt").write_bytes(pem)
    (directory / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid):
    """``pid`` and its descendants (granian's worker is a child)."""
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += family(int(child))
    return found


def cpu_seconds(pid):
    total = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mib(pid):
    total = 0
    for member in family(pid):
        total += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def process(arguments, port, environment=None):
    """Run a server until the block ends; it must accept connections within 20 s."""
    path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "webhook", "."))
    running = subprocess.Popen(
        arguments, env=os.environ | {"PYTHONPATH": path} | (environment or {}), cwd=ROOT
    )
    try:
        wait_for_port(port, running)
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def wait_for_port(port, running, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if running.poll() is not None:
            raise SystemExit(f"server ended with exit code {running.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port} after {seconds} s")


@dataclass(frozen=True)
class Sample:
    """One measured run."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    """Server CPU seconds per 1,000 requests."""
    failed: int
    not_ok: int
    allowed: int
    requests: int


def measure(
    pid, port, ca, bodies, connections, seconds, *, path="/validate?timeout=10s", once=False
):
    """Put load on a server and return what it did."""
    arguments = [
        sys.executable, str(HERE / "webhook_load.py"),
        "--port", str(port), "--ca", str(ca), "--bodies", str(bodies), "--path", path,
        "--connections", str(connections), "--seconds", str(seconds),
    ]  # fmt: skip
    if once:
        arguments.append("--once")
    before = cpu_seconds(pid)
    output = subprocess.run(arguments, check=True, capture_output=True).stdout
    used = cpu_seconds(pid) - before
    result = json.loads(output)
    if not result["requests"] or result["failed"] or result["not_ok"]:
        raise SystemExit(f"not every request was answered with 200: {result}")
    return Sample(
        per_second=result["per_second"],
        p50=result["p50_ms"],
        p99=result["p99_ms"],
        cpu=used / result["requests"] * 1000,
        failed=result["failed"],
        not_ok=result["not_ok"],
        allowed=result["allowed"],
        requests=result["requests"],
    )


def compact(path):
    """A review file as the API server would send it: one line."""
    return json.dumps(json.loads(path.read_bytes()), separators=(",", ":")).encode()


def table(header, rows):
    """Print a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
