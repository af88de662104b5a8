"""A cluster in small: what the operator writes, and everybody who lags behind it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry

from trailgate_kube.errors import KubeError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_operator.authority import (
    Pair,
    PairError,
    issued_by,
    names_of,
    read_bundle,
    service_names,
    valid,
)
from trailgate_operator.certificates import Certificates
from trailgate_operator.certificates_metrics import CertificateMetrics
from trailgate_operator.certificates_plan import Lifetimes
from trailgate_operator.certificates_state import AUTHORITY, SERVING
from trailgate_operator.keyring_secret import SecretBox
from trailgate_operator.loops import WaitingError
from trailgate_operator.metrics import LoopMetrics

NAMES = service_names("trailgate-webhook", "trailgate-system")
KUBELET_LAG = 180.0
API_LAG = 45.0


class Published:
    """The port that arming gives: what it saw last."""

    def __init__(self):
        self.known, self.bundle = True, None

    def __call__(self):
        if not self.known:
            raise UnavailableError("not read yet", maybe_done=False)
        return self.bundle


class Follower:
    """Sees a history with a lag of its own, never more than so many seconds."""

    def __init__(self, lag):
        self.lag, self.at = lag, 0


class World:
    """One operator, two API servers, two webhook pods; time passes only when it is told to."""

    def __init__(self, kube=None, namespace="test", lifetimes=None):
        self.kube, self.namespace = kube or MemoryKube(), namespace
        self.box = SecretBox(self.kube, namespace)
        self.lifetimes = lifetimes or Lifetimes()
        self.began = datetime.now(UTC) + timedelta(seconds=2)
        self.seconds, self.skew = 0.0, 0.0
        self.published = Published()
        self.configurations, self.leaves = [(0.0, None)], [(0.0, None)]
        self.api_servers = [Follower(API_LAG), Follower(API_LAG)]
        self.pods = [Follower(KUBELET_LAG), Follower(KUBELET_LAG)]
        self.checked, self.backup = {}, None
        self.most_ahead = timedelta.max  # the real API server's time is another than ours
        self.start()

    def start(self, kube=None):
        """Start the operator's loop, anew: whatever it had in memory is gone."""
        self.registry = CollectorRegistry()
        box = self.box if kube is None else SecretBox(kube, self.namespace)
        self.loop = Certificates(
            box,
            NAMES,
            self.published,
            CertificateMetrics(self.registry),
            LoopMetrics(CollectorRegistry()),
            lifetimes=self.lifetimes,
            most_ahead=self.most_ahead,
            clock=lambda: self.now + timedelta(seconds=self.skew),
            monotonic=lambda: self.seconds,
        )

    @property
    def now(self):
        """The right time."""
        return self.began + timedelta(seconds=self.seconds)

    async def look(self):
        """One pass of the loop; returns its problem."""
        try:
            await self.loop.once()
        except (WaitingError, KubeError) as error:
            return str(error)
        finally:
            await self.see_leaf()
        return None

    async def see_leaf(self):
        """Let the kubelets' history know what is stored now."""
        found = await self.box.get(SERVING)
        if found is None:
            return  # what is mounted stays mounted
        try:
            pair = Pair.read(found.data.get("tls.crt", b""), found.data.get("tls.key", b""))
        except PairError:
            return  # the webhook keeps the pair that it has
        if self.leaves[-1][1] is None or self.leaves[-1][1].certificate != pair.certificate:
            self.leaves.append((self.seconds, pair))

    def arm(self):
        """Publish what is to be published; at first only where every pod answers."""
        bundle = self.loop.bundle()
        live = self.configurations[-1][1]
        if bundle is not None and bundle != live:
            served = [self.leaves[pod.at][1] for pod in self.pods]
            if live is None and not all(one and self.trusts(bundle, one) for one in served):
                return
            self.configurations.append((self.seconds, bundle))
        self.published.bundle = self.configurations[-1][1]

    def disarm(self):
        if self.configurations[-1][1] is not None:
            self.configurations.append((self.seconds, None))
        self.published.bundle = None

    def catch_up(self, follower):
        follower.at = len(self._history(follower)) - 1

    def _history(self, follower):
        return self.leaves if follower in self.pods else self.configurations

    def pass_time(self, seconds):
        """Everybody who may not lag that long has seen it meanwhile."""
        self.seconds += seconds
        for follower in (*self.pods, *self.api_servers):
            history = self._history(follower)
            old = [i for i, (at, _) in enumerate(history) if at <= self.seconds - follower.lag]
            follower.at = max([follower.at, *old])

    def check(self):
        """Assert that every API server takes what every pod serves."""
        for pod in self.pods:
            for api_server in self.api_servers:
                bundle = self.configurations[api_server.at][1]
                leaf = self.leaves[pod.at][1]
                if bundle is None:
                    continue
                assert leaf is not None, "armed, and nothing is served"
                assert self.trusts(bundle, leaf), "the cluster is locked out"

    def trusts(self, bundle, leaf):
        if not valid(leaf.certificate, self.now) or not set(NAMES) <= names_of(leaf.certificate):
            return False
        key = bundle, leaf.certificate
        if key not in self.checked:
            self.checked[key] = [
                one for one in read_bundle(bundle) if issued_by(leaf.certificate, one)
            ]
        return any(valid(one, self.now) for one in self.checked[key])

    async def settle(self, seconds=60.0):
        """Let everybody work, without a hitch, for more than any of the waits."""
        waits = self.lifetimes.overlap + self.lifetimes.grace + timedelta(minutes=10)
        for _ in range(round(2 * waits.total_seconds() / seconds)):
            await self.look()
            self.arm()
            self.pass_time(seconds)
            self.check()
        return await self.look()

    async def annotate(self, text):
        found = await self.box.get(AUTHORITY)
        await self.box.replace(found.annotated(rotate=text))

    async def damage(self, name, key, content):
        found = await self.box.get(name)
        if found is not None:
            await self.box.replace(found.with_(**{key.replace(".", "_"): content}))

    async def restore(self):
        """Put an earlier authority back, from a backup; the first time it is only taken."""
        found = await self.box.get(AUTHORITY)
        if found is None:
            return
        if self.backup is None:
            self.backup = dict(found.data)
            return
        await self.box.replace(replace(found, data=self.backup))

    async def lose(self, name):
        found = await self.box.get(name)
        if found is not None:
            await self.box.delete(found)

    async def authority(self):
        """(certificates of the bundle, annotations) as they are stored."""
        found = await self.box.get(AUTHORITY)
        annotations = dict(found.annotations)
        annotations.pop("trailgate.dev/last-issued", None)
        return read_bundle(found.data["ca.crt"]), annotations

    async def leaf(self):
        found = await self.box.get(SERVING)
        return Pair.read(found.data["tls.crt"], found.data["tls.key"]).certificate
