"""What can be wrong with a tree, a note, a checkpoint or a proof."""

from trailgate.model.errors import MalformedError, TrailgateError


class TlogError(TrailgateError):
    """A transparency-log format was not what it must be."""


class ProofError(TlogError):
    """A Merkle proof proves nothing: malformed, of the wrong length, or not hashing to the root."""


class NoteError(TlogError, MalformedError):
    """A signed note, a key, a checkpoint or a receipt does not have the form of its spec."""


class SignatureError(TlogError):
    """A note is well formed, but no known key vouches for it, or a known key's signature fails."""
