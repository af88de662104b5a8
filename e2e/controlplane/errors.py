"""What can go wrong while bringing real parts up."""


class ControlPlaneError(Exception):
    """A real part could not be had or did not come up; the text is for a person to read."""


class StartError(ControlPlaneError):
    """A process ended or did not become ready in time; the text holds its log's tail."""


class PortTakenError(StartError):
    """Somebody else took the port between choosing and listening: try another one."""
