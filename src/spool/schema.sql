-- The embedded store. An administrator may read it: sqlite3 -readonly spool.sqlite
-- Times are milliseconds since 1970.
CREATE TABLE messages (
    seq        INTEGER PRIMARY KEY,          -- order of acceptance
    id         TEXT NOT NULL UNIQUE,         -- the id in our 250 and in the log
    tenant     TEXT NOT NULL,
    kind       INTEGER NOT NULL,             -- 0 submission, 1 bounce, 2 other mail of our own
    state      TEXT NOT NULL,                -- queued deferred suspended uncertain held failed
    size       INTEGER NOT NULL,
    sha256     BLOB NOT NULL,                -- of the original
    body       TEXT,                         -- the file in bodies/ that holds the original, NULL: in table bodies
    accepted   INTEGER NOT NULL,
    next       INTEGER,
    attempts   INTEGER NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL DEFAULT '',
    uncertain  TEXT,                         -- the route that may have taken it
    excluded   INTEGER NOT NULL DEFAULT 0,   -- time that does not count towards giving up
    held_since INTEGER,
    warned     INTEGER NOT NULL DEFAULT 0,
    guard      BLOB,                         -- set until the client went on after our 250
    envelope   TEXT NOT NULL,
    origin     TEXT NOT NULL,
    recipients TEXT NOT NULL,                -- states, in the order of the envelope
    seal       BLOB,                         -- SHA-256 over what decides where it goes
    begun      INTEGER NOT NULL DEFAULT 0    -- tries that ended with the end of the process
) STRICT;
CREATE INDEX messages_tenant ON messages (tenant, seq);
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
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
CREATE INDEX history_settled ON history (settled);
CREATE TABLE lanes (route TEXT PRIMARY KEY, health TEXT NOT NULL) STRICT;
CREATE TABLE owed (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, return_path TEXT NOT NULL, created INTEGER NOT NULL, notice TEXT NOT NULL) STRICT;
-- The files journal-a and journal-b hold what is younger: everything up to this number is here.
CREATE TABLE journal (folded INTEGER NOT NULL, clean INTEGER NOT NULL) STRICT; -- clean: stopped in order
INSERT INTO journal VALUES (0, 1);
-- What the people behind a tenant are told.
CREATE TABLE notices (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    tenant  TEXT NOT NULL,
    event   TEXT NOT NULL,
    text    TEXT NOT NULL,
    remedy  TEXT NOT NULL,
    mark    TEXT NOT NULL,               -- notices with the same mark are one, '': it has none
    told    INTEGER                      -- when a mail was written about it
) STRICT;
CREATE INDEX notices_tenant ON notices (tenant, seq);
CREATE INDEX notices_told ON notices (told, tenant);
PRAGMA user_version = 3;
