"""How the command line fails: one clear line, and an exit code that means one thing.

0 ok, 1 negative verdict, 2 usage or unusable input, 3 could not determine,
4 authentication. A crash is a 3 too: 1 is said only by a verdict. As a shell has
it, 130 is Ctrl-C and 141 a reader of our output that left.
"""

from __future__ import annotations

from enum import IntEnum

from trailgate.model.errors import MalformedError, TrailgateError


class ExitCode(IntEnum):
    """What a script may rely on."""

    OK = 0
    NEGATIVE = 1
    USAGE = 2
    UNDETERMINED = 3
    UNAUTHENTICATED = 4
    INTERRUPTED = 130
    READER_LEFT = 141


class InputError(TrailgateError):
    """A file or value that the user gave cannot be used; exit code 2."""


def exit_code(error: TrailgateError) -> ExitCode:
    """Choose the exit code of a foreseen error.

    An error class may say its own by an attribute ``exit_code``.
    """
    own = getattr(error, "exit_code", None)
    if own is not None:
        return ExitCode(own)
    if isinstance(error, MalformedError | InputError):
        return ExitCode.USAGE
    from trailgate.evidence.keys import PassphraseError
    from trailgate.oci.errors import UnauthorizedError

    if isinstance(error, UnauthorizedError):
        return ExitCode.UNAUTHENTICATED
    return ExitCode.USAGE if isinstance(error, PassphraseError) else ExitCode.UNDETERMINED
