-- From layout 2 to 3: what the people behind a tenant are told.
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
