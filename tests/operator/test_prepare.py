"""The preparation: made once, handed over, killed at any point; on the twin and the real server."""

import asyncio
import contextlib
import stat
import subprocess
import sys
import uuid

import pytest

from e2e.controlplane.cluster import ApiError
from tests.operator.test_command import PATH
from trailgate.ledger import sqlite
from trailgate.ledger.errors import (
    LedgerCorruptError,
    LedgerLockedError,
    LedgerUnavailableError,
)
from trailgate.ledger.keys import read_signing_key
from trailgate.ledger.lock import WriterLock
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.tlog.note import SigningKey
from trailgate_kube import reviewtoken
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import ConfigurationError, ForbiddenError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_operator.configuration import Configuration
from trailgate_operator.keyring import GATE, LEDGER, LOG, RECORDER, KeyringError, log_key
from trailgate_operator.keyring_secret import Secret, SecretBox
from trailgate_operator.prepare import Preparation
from trailgate_operator.prepare_places import Places

ORIGIN = "trail.example/eu"
NAMES = (GATE, RECORDER, LOG)
ENVIRONMENT = {"PYTHONPATH": PATH, "PATH": "/usr/bin:/bin"}


class Killed(BaseException):
    """As if the process ended here."""


class Killing:
    """A Kube that ends the process before or after its n-th write."""

    def __init__(self, kube, at, *, after):
        self.kube, self.left, self.after = kube, at, after

    def __getattr__(self, name):
        method = getattr(self.kube, name)
        if name not in ("create", "replace", "delete"):
            return method

        async def write(*arguments, **options):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Killed
            done = await method(*arguments, **options)
            if self.left == 0:
                raise Killed
            return done

        return write


class Installation:
    def __init__(self, kube, namespace, directory):
        self.kube, self.namespace = kube, namespace
        self.box = SecretBox(kube, namespace)
        (directory / "elsewhere").mkdir()
        self.places = Places(
            directory / "keys", directory / "ledger.db", directory / "elsewhere" / "checkpoint"
        )

    def preparation(self, kube=None, give_up=None, origin=ORIGIN):
        return Preparation(
            SecretBox(kube or self.kube, self.namespace), self.places, origin, give_up
        )

    async def prepare(self, seconds=5, **options):
        return await self.preparation(**options).run(seconds)

    async def secrets(self):
        return {name: await self.box.get(name) for name in NAMES}

    async def whole(self):
        """Assert that everything is there and belongs together; returns the vkey."""
        found = await self.secrets()
        assert LEDGER not in found[LOG].annotations
        assert set(found[RECORDER].data) == {"recorder.key", "gate.pub"}
        key = log_key(found[LOG])
        with SqliteReader(self.places.ledger) as reader:
            assert reader.log().vkey == str(key.verifier)
        directory = self.places.keys
        assert sorted(path.name for path in directory.iterdir()) == [
            "gate.pub",
            "log.key",
            "recorder.key",
            "review-token",
        ]
        token = (directory / "review-token").read_bytes()
        assert token == found[GATE].data["review-token"]
        assert reviewtoken.parse(token)
        for path in directory.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert read_signing_key(directory / "log.key") == key
        configuration = Configuration(
            self.places.ledger,
            directory / "log.key",
            (directory / "recorder.key",),
            (directory / "gate.pub",),
        )
        configuration.check()
        assert len(configuration.keys().signers) == 1
        left = {path.name for path in self.places.ledger.parent.iterdir() if "draft" in path.name}
        assert left <= {".ledger.db.draft.lock"}  # empty
        return str(key.verifier)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def installation(request, tmp_path):
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        yield Installation(MemoryKube(), namespace, tmp_path)
        return
    plane = request.getfixturevalue("control_plane")
    plane.namespace(namespace)
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        yield Installation(client, namespace, tmp_path)


@pytest.fixture
def twin(tmp_path):
    return Installation(MemoryKube(), "test", tmp_path)


async def test_all_is_made_handed_over_and_left_alone_from_then_on(installation):
    vkey = await installation.prepare()
    assert await installation.whole() == vkey
    before = await installation.secrets()
    assert await installation.prepare() == vkey
    after = await installation.secrets()
    for name in NAMES:
        assert after[name].read == before[name].read
        assert after[name].ours
        assert after[name].read["metadata"]["labels"]["app.kubernetes.io/part-of"] == "trailgate"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2, 3, 4, 5])
async def test_killed_at_any_write_the_next_run_ends_well(installation, write, after):
    with pytest.raises(Killed):
        await installation.prepare(kube=Killing(installation.kube, write, after=after))
    vkey = await installation.prepare()
    assert await installation.whole() == vkey


async def test_a_gate_of_an_earlier_release_is_given_a_token_and_nothing_else_changes(installation):
    vkey = await installation.prepare()
    before = await installation.secrets()
    gate = before[GATE]
    kept = {key: value for key, value in gate.data.items() if key != "review-token"}
    await installation.box.replace(Secret(GATE, kept, gate.annotations, gate.type, gate.read))
    assert await installation.prepare() == vkey
    after = await installation.secrets()
    token = after[GATE].data["review-token"]
    assert token != gate.data["review-token"]
    assert after[GATE].data == kept | {"review-token": token}
    assert after[GATE].read["metadata"]["uid"] == gate.read["metadata"]["uid"]
    assert (after[RECORDER].read, after[LOG].read) == (before[RECORDER].read, before[LOG].read)
    assert await installation.whole() == vkey


async def test_what_is_no_token_is_refused_and_not_quoted(twin):
    await twin.prepare()
    gate = (await twin.secrets())[GATE]
    wrong = {**gate.data, "review-token": b"Secret!"}
    await twin.box.replace(Secret(GATE, wrong, gate.annotations, gate.type, gate.read))
    with pytest.raises(KeyringError, match="trailgate-gate: got 7 characters") as error:
        await twin.prepare()
    assert "Secret!" not in str(error.value)


async def test_there_are_five_writes(twin):
    killing = Killing(twin.kube, 6, after=False)
    await twin.prepare(kube=killing)
    assert killing.left == 1


@pytest.mark.parametrize("name", ["create", "rename", "sync", "write_keys"])
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_change_of_files_the_next_run_ends_well(twin, monkeypatch, name, after):
    from pathlib import Path

    from trailgate_operator import prepare_places

    target, attribute = {
        "create": (sqlite, "create"),
        "rename": (Path, "rename"),
        "sync": (prepare_places, "_sync"),
        "write_keys": (Path, "replace"),
    }[name]
    real = getattr(target, attribute)

    def killed(*arguments):
        if after:
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target, attribute, killed)
        with pytest.raises(Killed):
            await twin.prepare()
    assert await twin.prepare() == await twin.whole()


async def test_a_ledger_cut_off_while_it_is_made_is_made_anew(twin, monkeypatch):
    def half(path, key):
        path.write_bytes(b"half of a ledger")
        path.with_name(f"{path.name}-wal").write_bytes(b"and of its log")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "create", half)
        with pytest.raises(Killed):
            await twin.prepare()
    assert not twin.places.ledger.exists()
    await twin.prepare()
    await twin.whole()


def killed_when_it_is_there(plane, command, path):
    """Run the command until an object is there, and kill it at once."""
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            with contextlib.suppress(ApiError):
                plane.api("GET", path)
                break
        process.kill()


def test_killed_for_real_it_ends_well(twin, control_plane):
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    control_plane.namespace(namespace)
    code = "from trailgate_operator.prepare_command import main; main()"
    command = [
        sys.executable, "-c", code, "--keys-dir", str(twin.places.keys), "--origin", ORIGIN,
        "--ledger", f"sqlite:{twin.places.ledger}", "--namespace", namespace,
        "--known-checkpoint", str(twin.places.known),
        "--kubeconfig", str(control_plane.admin.kubeconfig),
    ]  # fmt: skip
    for name in (RECORDER, GATE, LOG):
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        killed_when_it_is_there(control_plane, command, path)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    async def whole():
        async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
            twin.box = SecretBox(client, namespace)
            return await twin.whole()

    assert asyncio.run(whole()) == done.stdout.strip()


async def test_two_at_once_agree(installation):
    first, second = await asyncio.gather(installation.prepare(), installation.prepare())
    assert first == second == await installation.whole()


async def test_another_writer_is_waited_out(twin):
    lock = WriterLock(twin.places.ledger)
    with pytest.raises(LedgerLockedError):
        await twin.prepare(seconds=0.1)
    preparing = asyncio.create_task(twin.prepare(seconds=60))
    lock.release()
    assert await preparing == await twin.whole()


async def test_an_answer_that_was_lost_is_looked_up(twin):
    for _ in range(3):
        twin.kube.fail("create", UnavailableError("timed out", maybe_done=True), after=True)
    twin.kube.fail("replace", UnavailableError("timed out", maybe_done=True), after=True)
    assert await twin.prepare(seconds=30) == await twin.whole()


async def test_what_may_pass_is_waited_out_only_so_long(twin):
    twin.kube.fail("get", ForbiddenError("no rights yet"))
    await twin.prepare(seconds=5)

    for _ in range(20):
        twin.kube.fail("get", UnavailableError("down", maybe_done=False))
    with pytest.raises(UnavailableError, match="down"):
        await twin.prepare(seconds=0.5)


async def test_no_usable_kubeconfig_is_not_waited_out(twin):
    twin.kube.fail("get", ConfigurationError("no"))
    with pytest.raises(ConfigurationError):
        await twin.prepare(seconds=100)


@pytest.mark.parametrize("name", NAMES)
async def test_a_secret_that_was_damaged_is_refused_and_stays_as_it_is(installation, name):
    await installation.prepare()
    found = await installation.box.get(name)
    key = min(found.data)
    await installation.box.replace(found.with_(**{key.replace(".", "_"): None}))
    broken = await installation.box.get(name)
    with pytest.raises(KeyringError, match=f"Secret {name}: got no {key}"):
        await installation.prepare()
    assert (await installation.box.get(name)).read == broken.read


@pytest.mark.parametrize("name", [GATE, RECORDER])
async def test_a_half_that_was_deleted_is_refused(installation, name):
    await installation.prepare()
    await installation.box.delete(await installation.box.get(name))
    with pytest.raises(KeyringError, match=f"its other half {name} is not"):
        await installation.prepare()
    assert await installation.box.get(name) is None


def lose_ledger(twin):
    for path in twin.places.ledger.parent.glob("ledger.db*"):
        path.unlink()


async def test_a_lost_ledger_is_refused_until_it_is_given_up_by_its_id(twin):
    lost = await twin.prepare()
    key = log_key(await twin.box.get(LOG))
    with SqliteStore(twin.places.ledger, key) as store:
        store.append([Entry(b'{"kind":"gap"}', "one")])
        twin.places.known.write_text(store.checkpoint())
    lose_ledger(twin)
    with pytest.raises(KeyringError, match="the ledger is not there") as refused:
        await twin.prepare()
    assert not twin.places.ledger.exists()
    mark = key.verifier.id.hex()
    assert str(refused.value).endswith(f"--new-ledger {mark}")
    new = await twin.prepare(give_up=mark)
    assert new != lost
    assert await twin.whole() == new
    assert not twin.places.known.exists()
    assert twin.places.known.with_name(f"checkpoint.given-up-{mark}").is_file()
    kept = (await twin.box.get(LOG)).data
    assert kept[f"given-up-{mark}.key"].decode().strip() == key.encode()
    assert kept[f"given-up-{mark}.vkey"].decode().strip() == lost
    assert await twin.prepare(give_up=mark) == new  # once, however long the option stays


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2])
async def test_giving_up_may_be_killed_too(twin, write, after):
    await twin.prepare()
    mark = log_key(await twin.box.get(LOG)).verifier.id.hex()
    lose_ledger(twin)
    with pytest.raises(Killed):
        await twin.prepare(kube=Killing(twin.kube, write, after=after), give_up=mark)
    assert await twin.prepare(give_up=mark) == await twin.whole()


async def test_a_lost_key_is_refused_until_its_log_is_given_up(twin):
    lost = await twin.prepare()
    old = log_key(await twin.box.get(LOG))
    await twin.box.delete(await twin.box.get(LOG))
    with pytest.raises(KeyringError, match="Secret trailgate-log is not there, the ledger is"):
        await twin.prepare()
    assert await twin.box.get(LOG) is None
    mark = old.verifier.id.hex()
    new = await twin.prepare(give_up=mark)
    assert new != lost
    await twin.whole()
    with SqliteReader(twin.places.ledger.with_name(f"ledger.db.given-up-{mark}")) as reader:
        assert reader.log().vkey == lost


async def test_another_logs_ledger_is_refused(twin):
    sqlite.create(twin.places.ledger, SigningKey.generate("other.example"))
    with pytest.raises(KeyringError, match=r"the ledger is the log other\.example"):
        await twin.prepare()


async def test_the_checkpoint_alone_tells_of_an_earlier_log(twin):
    await twin.prepare()
    with SqliteReader(twin.places.ledger) as reader:
        twin.places.known.write_text(reader.checkpoint())
    await twin.box.delete(await twin.box.get(LOG))
    lose_ledger(twin)
    with pytest.raises(KeyringError, match="the known checkpoint is signed by the key"):
        await twin.prepare()


async def test_what_is_no_ledger_is_refused_and_stays(twin):
    twin.places.ledger.write_bytes(b"what is this")
    with pytest.raises(LedgerCorruptError):
        await twin.prepare()
    assert twin.places.ledger.read_bytes() == b"what is this"
    assert await twin.box.get(LOG) is None


async def test_nothing_that_was_put_aside_is_overwritten(twin):
    await twin.prepare()
    mark = log_key(await twin.box.get(LOG)).verifier.id.hex()
    twin.places.ledger.with_name(f"ledger.db.given-up-{mark}").write_bytes(b"older")
    await twin.box.delete(await twin.box.get(LOG))
    from trailgate_operator.configuration import ConfigurationError as Refused

    with pytest.raises(Refused, match="already there"):
        await twin.prepare(give_up=mark)


async def test_a_full_disk_is_waited_out(twin, monkeypatch):
    real, failures = sqlite.create, [LedgerUnavailableError("disk full")]

    def create(path, key):
        if failures:
            raise failures.pop()
        real(path, key)

    monkeypatch.setattr(sqlite, "create", create)
    await twin.prepare(seconds=10)
    await twin.whole()


async def test_the_log_keeps_the_name_that_it_was_made_with(twin, caplog):
    vkey = await twin.prepare()
    with caplog.at_level("WARNING", "trailgate.process"):
        assert await twin.prepare(origin="other.example") == vkey
    assert "keeps the name" in caplog.text


# The command


def run(*arguments, before="", code="from trailgate_operator.prepare_command import main; main()"):
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{code}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT,
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--ledger": "ledger.db"}, "expected sqlite:PATH"),
        ({"--ledger": "sqlite:/nowhere/ledger.db"}, "--ledger: /nowhere is not a directory"),
        ({"--keys-dir": "/nowhere/keys"}, "--keys-dir: /nowhere is not a directory"),
        ({"--known-checkpoint": "/nowhere/at"}, "--known-checkpoint: /nowhere is not a directory"),
        ({"--origin": "two words"}, "--origin: "),
        ({"--new-ledger": "yes"}, "expected the lost log's id"),
        ({"--kubeconfig": "/nowhere/config"}, "/nowhere/config"),
        ({"--wait": "-1"}, "--wait"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(tmp_path, changes, says):
    options = {"--keys-dir": tmp_path, "--ledger": f"sqlite:{tmp_path}/l.db", "--origin": ORIGIN}
    done = run(*[part for pair in (options | changes).items() for part in pair])
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_one_line_says_what_to_install(tmp_path):
    done = run(
        "--keys-dir", tmp_path, "--ledger", f"sqlite:{tmp_path}/l.db", "--origin", ORIGIN,
        before="import sys; sys.modules['kubernetes'] = None",
    )  # fmt: skip
    assert done.returncode == 2
    assert "run: pip install 'trailgate[operator]'" in done.stderr
