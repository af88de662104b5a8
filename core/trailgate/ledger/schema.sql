-- The ledger's file. Truth is in log, entry, node, checkpoint and the disclosures;
-- dedupe and position serve the writer. Nothing here is ever updated or deleted,
-- except the newest checkpoint of the running hour, positions, and what was erased.

-- "TRGL": says whose file this is.
PRAGMA application_id = 1414678348;
PRAGMA user_version = 1;

-- One row: which log this is. vkey is a convenience and proves nothing.
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    vkey TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- The records, as they are hashed.
CREATE TABLE entry (
    idx INTEGER PRIMARY KEY,
    record BLOB NOT NULL
) STRICT;

-- The RFC 6962 tree: every perfect subtree's root; level 0 are the leaves.
CREATE TABLE node (
    level INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints: the newest, and the last one of every hour (signed_at: Unix seconds).
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL,
    signed_at INTEGER NOT NULL
) STRICT;

-- Which entry a dedupe key named first.
CREATE TABLE dedupe (
    key TEXT PRIMARY KEY,
    idx INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Small values that must move together with the entries: the recorder's own.
CREATE TABLE position (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What opens the records' commitments (trailgate.ledger.people). A missing row was
-- erased on record, or tampered with. Persons, and what is theirs:
CREATE TABLE disclosure (
    key TEXT PRIMARY KEY,
    content BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- and texts that are nobody's in particular, each of one entry.
CREATE TABLE entry_disclosure (
    idx INTEGER NOT NULL,
    key TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (idx, key)
) STRICT, WITHOUT ROWID;
