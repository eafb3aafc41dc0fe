-- From layout 1 to 2: the history is kept by number, body files have names of their own, the
-- journal is new.
ALTER TABLE messages ADD COLUMN body TEXT;
UPDATE messages SET body = id WHERE file = 1;
ALTER TABLE messages DROP COLUMN file;
ALTER TABLE messages ADD COLUMN seal BLOB;
ALTER TABLE messages ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
ALTER TABLE history RENAME TO history_1;
DROP INDEX history_settled;
CREATE TABLE history (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL,
    kind       INTEGER NOT NULL,
    state      TEXT NOT NULL,
    size       INTEGER NOT NULL,
    accepted   INTEGER NOT NULL,
    settled    INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    guard      BLOB,
    envelope   TEXT NOT NULL,
    recipients TEXT NOT NULL
) STRICT;
-- Negative, so that no message that still waits has the same number.
INSERT INTO history SELECT -row_number() OVER (ORDER BY settled DESC), id, tenant, kind, state, size, accepted, settled, attempts, reason, guard, envelope, recipients FROM history_1;
DROP TABLE history_1;
CREATE INDEX history_settled ON history (settled);
CREATE TABLE journal (folded INTEGER NOT NULL, clean INTEGER NOT NULL) STRICT;
INSERT INTO journal VALUES (0, 1);
PRAGMA user_version = 2;
