-- One row per saga. due_at says when somebody may take it: the end of the owner's lease while it has an owner, null when
-- nobody ever should (ended, or parked for an operator). epoch grows with every owner; writes of older ones are refused.
CREATE TABLE sagas (
  saga_id       BLOB    PRIMARY KEY NOT NULL,
  kind          TEXT    NOT NULL,
  version       INTEGER NOT NULL,
  phase         TEXT    NOT NULL CHECK (phase IN ('started', 'processing', 'compensating', 'completed', 'failed')),
  step          INTEGER NOT NULL CHECK (step >= 0),
  uncertain     INTEGER NOT NULL,
  parked        INTEGER NOT NULL,
  attempt       INTEGER NOT NULL,
  reason_code   TEXT,
  reason_detail TEXT,
  cancel_code   TEXT,
  last_error    TEXT,
  data          TEXT    NOT NULL,
  traceparent   TEXT,
  owner         TEXT,
  epoch         INTEGER NOT NULL,
  due_at        TEXT,
  started_at    TEXT    NOT NULL,
  step_since    TEXT    NOT NULL,
  updated_at    TEXT    NOT NULL
) STRICT;
CREATE INDEX sagas_due ON sagas (kind, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sagas_open ON sagas (kind, phase) WHERE phase IN ('started', 'processing', 'compensating');

-- What happened to each, in order.
CREATE TABLE saga_log (
  saga_id BLOB    NOT NULL REFERENCES sagas,
  n       INTEGER NOT NULL,
  epoch   INTEGER NOT NULL,
  owner   TEXT,
  at      TEXT    NOT NULL,
  step    TEXT    NOT NULL,
  event   TEXT    NOT NULL,
  detail  TEXT    NOT NULL,
  PRIMARY KEY (saga_id, n)
) STRICT, WITHOUT ROWID;
