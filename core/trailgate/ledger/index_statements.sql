-- Every statement of the query index, by name.

-- name: read_progress
SELECT origin, size, leaf FROM progress WHERE id = 1;

-- name: set_progress
INSERT INTO progress (id, origin, size, leaf) VALUES (1, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET origin = excluded.origin, size = excluded.size, leaf = excluded.leaf;

-- name: insert_event
INSERT INTO event (idx, kind, decided_at, claim, outcome, namespace)
VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_workload
INSERT OR IGNORE INTO workload (name, kind, idx) VALUES (?, ?, ?);

-- name: insert_change
INSERT INTO change (claim, first, last, claims) VALUES (?1, ?2, ?2, 1)
ON CONFLICT (claim) DO UPDATE SET last = excluded.last, claims = claims + 1;

-- name: insert_role
INSERT OR IGNORE INTO role (person, role, idx) VALUES (?, ?, ?);

-- name: insert_person
INSERT INTO person (id, login) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET login = coalesce(excluded.login, login);

-- name: insert_image
INSERT OR IGNORE INTO image (digest, idx) VALUES (?, ?);

-- name: insert_revision
INSERT OR IGNORE INTO revision (revision, idx) VALUES (?, ?);

-- name: read_people
SELECT id, login FROM person ORDER BY id;

-- name: read_claims
SELECT c.claims, c.first FROM event AS e JOIN change AS c ON c.claim = e.claim
WHERE e.idx = ?;

-- name: select_changes
-- NULL is "not asked for"; people are JSON arrays of commitments; revisions by prefix.
SELECT e.idx, coalesce(c.claims, 1), coalesce(c.first, e.idx)
FROM event AS e LEFT JOIN change AS c ON c.claim = e.claim
WHERE (c.last IS NULL OR c.last = e.idx)
AND (:start IS NULL OR e.decided_at >= :start)
AND (:end IS NULL OR e.decided_at < :end)
AND (:kind IS NULL OR e.kind = :kind)
AND (:outcome IS NULL OR e.outcome = :outcome)
AND (:namespace IS NULL OR e.namespace = :namespace)
AND (:workload_name IS NULL OR e.idx IN (
    SELECT idx FROM workload WHERE name = :workload_name
    AND (:workload_kind IS NULL OR kind = :workload_kind COLLATE NOCASE)
))
AND (:committer IS NULL OR e.idx IN (
    SELECT idx FROM role WHERE role = 'committer'
    AND person IN (SELECT value FROM json_each(:committer))
))
AND (:approver IS NULL OR e.idx IN (
    SELECT idx FROM role WHERE role = 'approver'
    AND person IN (SELECT value FROM json_each(:approver))
))
AND (:caller IS NULL OR e.idx IN (
    SELECT idx FROM role WHERE role = 'caller'
    AND person IN (SELECT value FROM json_each(:caller))
))
AND (:image IS NULL OR e.idx IN (SELECT idx FROM image WHERE digest = :image))
AND (:revision IS NULL OR e.idx IN (
    SELECT idx FROM revision WHERE revision >= :revision AND revision < :revision || 'g'
))
ORDER BY e.idx;
