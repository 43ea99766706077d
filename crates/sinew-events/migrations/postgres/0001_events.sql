-- What happened here, for others. Writers only insert; pos is given out after the commit, by whoever holds the counter's
-- row: identity values commit out of order, and a reader that remembers one would skip rows for good.
CREATE TABLE outbox (
  seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pos         bigint UNIQUE,
  event_id    uuid        NOT NULL UNIQUE,
  aggregate   uuid        NOT NULL,
  version     bigint      NOT NULL,
  kind        text        NOT NULL,
  schema      bigint      NOT NULL,
  payload     bytea       NOT NULL,
  occurred_at timestamptz NOT NULL,
  traceparent text
);
CREATE INDEX outbox_pending ON outbox (seq) WHERE pos IS NULL;

CREATE TABLE counters (
  name text   PRIMARY KEY,
  n    bigint NOT NULL
);
INSERT INTO counters (name, n) VALUES ('outbox', 0);

-- Which events of others took effect here: written in the effect's own transaction.
CREATE TABLE inbox (
  consumer text        NOT NULL,
  event_id uuid        NOT NULL,
  seen_at  timestamptz NOT NULL,
  PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_age ON inbox (seen_at);

-- What was asked and answered under an idempotency key, so that a repeat gets the same answer.
CREATE TABLE idempotency (
  caller      text        NOT NULL,
  key         text        NOT NULL,
  fingerprint bytea       NOT NULL,
  response    bytea,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
