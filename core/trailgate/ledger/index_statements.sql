-- Every statement of the query index, by name.

-- name: read_progress
SELECT origin, size, leaf FROM progress WHERE id = 1;

-- name: set_progress
INSERT INTO progress (id, origin, size, leaf) VALUES (1, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET origin = excluded.origin, size = excluded.size, leaf = excluded.leaf;

-- name: insert_event
INSERT INTO event (idx, kind, decided_at, claim, outcome, namespace, change_id, stage)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

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

-- name: every_event
SELECT * FROM event;

-- name: every_workload
SELECT name, kind, idx FROM workload;

-- name: every_role
SELECT person, role, idx FROM role;

-- name: every_image
SELECT digest, idx FROM image;

-- name: every_revision
SELECT revision, idx FROM revision;

-- name: count_wrong_changes
-- Rows that one side has and the other has not.
WITH due AS (
    SELECT claim, min(idx), max(idx), count(*) FROM event WHERE claim IS NOT NULL GROUP BY claim
),
there AS (SELECT claim, first, last, claims FROM change)
SELECT (SELECT count(*) FROM (SELECT * FROM due EXCEPT SELECT * FROM there))
+ (SELECT count(*) FROM (SELECT * FROM there EXCEPT SELECT * FROM due));

-- name: integrity_check
PRAGMA integrity_check(1);

-- name: read_claims
SELECT c.claims, c.first FROM event AS e JOIN change AS c ON c.claim = e.claim
WHERE e.idx = ?;

-- name: read_stages
SELECT idx FROM event WHERE change_id = ? AND stage = 1 ORDER BY idx;

-- name: select_changes
-- NULL is "not asked for"; people are JSON arrays of commitments; revisions by prefix.
-- A stage is told in the row of its change, and has one of its own only without an admission.
SELECT e.idx, coalesce(c.claims, 1), coalesce(c.first, e.idx)
FROM event AS e LEFT JOIN change AS c ON c.claim = e.claim
WHERE (c.last IS NULL OR c.last = e.idx)
AND (e.stage = 0 OR NOT EXISTS (
    SELECT 1 FROM event AS a WHERE a.change_id = e.change_id AND a.stage = 0
))
AND (:start IS NULL OR e.decided_at >= :start)
AND (:end IS NULL OR e.decided_at < :end)
AND (:kind IS NULL OR e.kind = :kind OR EXISTS (
    SELECT 1 FROM event AS s
    WHERE s.change_id = e.change_id AND s.stage = 1 AND s.kind = :kind
))
AND (:state IS NULL OR (e.change_id IS NOT NULL AND :state = coalesce((
    SELECT s.kind FROM event AS s WHERE s.change_id = e.change_id AND s.stage = 1
    ORDER BY s.idx DESC LIMIT 1
), 'admitted')))
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
AND (:image IS NULL OR e.idx IN (SELECT idx FROM image WHERE digest = :image) OR e.change_id IN (
    SELECT s.change_id FROM image AS i JOIN event AS s ON s.idx = i.idx
    WHERE i.digest = :image AND s.stage = 1
))
AND (:revision IS NULL OR e.idx IN (
    SELECT idx FROM revision WHERE revision >= :revision AND revision < :revision || 'g'
))
ORDER BY e.idx;
