-- The query index, a file of its own beside the ledger: derived, rebuilt by
-- `trailgate ledger reindex`, never a source of truth. It only finds entries; what is
-- shown of them is read from their records.

-- "TRIX"
PRAGMA application_id = 1414678872;
PRAGMA user_version = 2;

-- One row: of which log, and how much of it is indexed; leaf is the last one's hash.
CREATE TABLE progress (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    leaf BLOB NOT NULL
) STRICT;

-- One row an entry. Times are RFC 3339 in UTC, so that text order is time order.
-- change_id is of admissions, and of what became of them: the stages of one change.
CREATE TABLE event (
    idx INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    decided_at TEXT NOT NULL,
    claim TEXT,
    outcome TEXT,
    namespace TEXT,
    change_id TEXT,
    stage INTEGER NOT NULL DEFAULT 0 CHECK (stage IN (0, 1))
) STRICT;

CREATE INDEX event_decided ON event (decided_at);
CREATE INDEX event_namespace ON event (namespace, decided_at);
CREATE INDEX event_change ON event (change_id, stage, idx) WHERE change_id IS NOT NULL;

-- Counted refusals name the first and the last workload.
CREATE TABLE workload (
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    idx INTEGER NOT NULL,
    PRIMARY KEY (name, kind, idx)
) STRICT, WITHOUT ROWID;

-- One row a change and caller, however often it was claimed; the last claim stands for it.
-- Whoever asked for the same change too (a deletion, mostly) is never counted as another.
CREATE TABLE change (
    claim TEXT PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    claims INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who, in which role, by commitment: names are never here. (system: users stand in clear.)
CREATE TABLE role (
    person TEXT NOT NULL,
    role TEXT NOT NULL,
    idx INTEGER NOT NULL,
    PRIMARY KEY (person, role, idx)
) STRICT, WITHOUT ROWID;

-- Every person once: the commitments to what they may be asked for by.
CREATE TABLE person (
    id TEXT PRIMARY KEY,
    login TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE image (
    digest TEXT NOT NULL,
    idx INTEGER NOT NULL,
    PRIMARY KEY (digest, idx)
) STRICT, WITHOUT ROWID;

-- "commit" is a word of SQL.
CREATE TABLE revision (
    revision TEXT NOT NULL,
    idx INTEGER NOT NULL,
    PRIMARY KEY (revision, idx)
) STRICT, WITHOUT ROWID;
