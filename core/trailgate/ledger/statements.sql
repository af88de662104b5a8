-- Every statement of the SQLite store, by name.

-- name: insert_log
INSERT INTO log (id, origin, vkey, created_at) VALUES (1, ?, ?, ?);

-- name: read_log
SELECT origin, vkey FROM log WHERE id = 1;

-- name: insert_entry
INSERT INTO entry (idx, record) VALUES (?, ?);

-- name: read_entries
SELECT idx, record FROM entry WHERE idx >= ? ORDER BY idx LIMIT ?;

-- name: last_entry
SELECT max(idx) FROM entry;

-- name: insert_node
INSERT INTO node (level, position, hash) VALUES (?, ?, ?);

-- name: read_node
SELECT hash FROM node WHERE level = ? AND position = ?;

-- name: read_nodes
SELECT position, hash FROM node
WHERE level = ? AND position >= ? AND position < ? ORDER BY position;

-- name: count_nodes
SELECT count(*) FROM node;

-- name: insert_checkpoint
INSERT INTO checkpoint (size, note, signed_at) VALUES (?, ?, ?);

-- name: drop_superseded_checkpoint
DELETE FROM checkpoint WHERE size = ? AND signed_at / 3600 = ? / 3600;

-- name: read_newest_checkpoint
SELECT size, note, signed_at FROM checkpoint ORDER BY size DESC LIMIT 1;

-- name: read_checkpoints
SELECT size, note FROM checkpoint ORDER BY size;

-- name: insert_dedupe
INSERT INTO dedupe (key, idx) VALUES (?, ?);

-- name: read_dedupe
SELECT d.idx, e.record FROM dedupe AS d LEFT JOIN entry AS e ON e.idx = d.idx WHERE d.key = ?;

-- name: read_dedupe_after
SELECT d.key, d.idx, e.record FROM dedupe AS d LEFT JOIN entry AS e ON e.idx = d.idx
WHERE d.key > ? ORDER BY d.key LIMIT ?;

-- name: forget_dedupe
DELETE FROM dedupe WHERE key = ?;

-- name: mend_dedupe
INSERT INTO dedupe (key, idx) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET idx = excluded.idx WHERE idx > excluded.idx;

-- name: forget_position
DELETE FROM position WHERE name = ?;

-- name: set_position
INSERT INTO position (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: read_positions
SELECT name, value FROM position ORDER BY name;

-- name: insert_disclosure
INSERT INTO disclosure (key, content) VALUES (?, ?) ON CONFLICT (key) DO NOTHING;

-- name: forget_disclosure
DELETE FROM disclosure WHERE key = ?;

-- name: insert_entry_disclosure
INSERT INTO entry_disclosure (idx, key, content) VALUES (?, ?, ?);

-- name: forget_entry_disclosure
DELETE FROM entry_disclosure WHERE key = ?;

-- name: read_entry_disclosures
SELECT idx, key, content FROM entry_disclosure WHERE idx >= ? AND idx < ? ORDER BY idx, key;

-- name: read_disclosure
SELECT content FROM disclosure WHERE key = ?;

-- name: read_disclosures
SELECT key, content FROM disclosure WHERE key >= ? AND key < ? ORDER BY key;

-- name: read_disclosures_after
SELECT key, content FROM disclosure WHERE key > ? ORDER BY key LIMIT ?;

-- name: read_strays
SELECT idx, key FROM entry_disclosure WHERE idx < 0 OR idx >= ? ORDER BY idx, key;

-- name: find_disclosure
SELECT 1 FROM disclosure WHERE key = ? UNION ALL SELECT 1 FROM entry_disclosure WHERE key = ?;

-- name: integrity_check
PRAGMA integrity_check(1);
