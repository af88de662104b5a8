"""What can go wrong with a cluster for the stories."""

from e2e.controlplane.errors import ControlPlaneError


class ClusterError(ControlPlaneError):
    """The cluster could not be had or not be told something; the text is for a person."""


class UnsupportedError(ClusterError):
    """This provider can't do that to its cluster: a story that needs it can't be told here."""


class KubectlError(ClusterError):
    """kubectl ended with another status than 0; ``stderr`` is what it printed."""

    def __init__(self, command: str, status: int, stderr: str) -> None:
        self.status = status
        self.stderr = stderr
        super().__init__(f"{command}: status {status}, expected 0\n{stderr.strip()}")
