-- What happened here, for others. Writers only insert; pos is given out after the commit, by whoever holds the counter's
-- row. SQLite has one writer at a time and would not need it; the code is the same for both.
CREATE TABLE outbox (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  pos         INTEGER UNIQUE,
  event_id    BLOB    NOT NULL UNIQUE,
  aggregate   BLOB    NOT NULL,
  version     INTEGER NOT NULL,
  kind        TEXT    NOT NULL,
  schema      INTEGER NOT NULL,
  payload     BLOB    NOT NULL,
  occurred_at TEXT    NOT NULL,
  traceparent TEXT
) STRICT;
CREATE INDEX outbox_pending ON outbox (seq) WHERE pos IS NULL;

CREATE TABLE counters (
  name TEXT    PRIMARY KEY NOT NULL,
  n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, n) VALUES ('outbox', 0);

-- Which events of others took effect here: written in the effect's own transaction.
CREATE TABLE inbox (
  consumer TEXT NOT NULL,
  event_id BLOB NOT NULL,
  seen_at  TEXT NOT NULL,
  PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_age ON inbox (seen_at);

-- What was asked and answered under an idempotency key, so that a repeat gets the same answer.
CREATE TABLE idempotency (
  caller      TEXT NOT NULL,
  key         TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  response    BLOB,
  created_at  TEXT NOT NULL,
  PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);
