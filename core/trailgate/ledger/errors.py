"""What can go wrong with a ledger, told apart by what the caller can do about it."""

from trailgate.model.errors import MalformedError, TrailgateError


class LedgerError(TrailgateError):
    """Something about the ledger; the text says which file and what to do."""


class LedgerUnavailableError(LedgerError):
    """Nothing was stored, and the same append may be tried again: disk full, I/O error, busy.

    Where the failure hid an append that did reach the disk, the retry's dedupe key
    finds it and returns its index.
    """

    retryable = True


class LedgerCorruptError(LedgerError):
    """The file is not a ledger, or not one that can be read any more."""


class LedgerRolledBackError(LedgerError):
    """The ledger has less, or other, than a checkpoint that is known from outside."""


class KnownCheckpointError(LedgerError):
    """The checkpoint to hold the ledger against is missing or is none: nothing can be compared."""


class LedgerLockedError(LedgerError):
    """Another process writes this ledger; there is one writer at a time."""


class LedgerKeyError(LedgerError):
    """A key file is missing, readable by others, or not this ledger's."""

    exit_code = 2


class LedgerExistsError(LedgerError):
    """A file that would be made is already there; nothing is overwritten."""

    exit_code = 2


class UnsuitableFileSystemError(LedgerError):
    """The ledger lies where locks and fsync can't be trusted: a network file system."""


class EntryNotFoundError(LedgerError):
    """The ledger has no entry of that index."""

    exit_code = 2


class UnknownSchemaError(LedgerError):
    """An entry is not a record of a schema that this version knows."""


class EntryMisplacedError(LedgerError):
    """An entry whose record counts on an index would get another one; nothing was stored.

    Whoever made the record believes something of the ledger that is not so (any more).
    """


class EntryRefusedError(LedgerError, MalformedError):
    """An entry that no ledger takes: too large, empty, or without a dedupe key."""
