-- Events up to this position are no longer kept.
INSERT INTO counters (name, n) VALUES ('outbox_floor', 0);
CREATE INDEX outbox_age ON outbox (occurred_at) WHERE pos IS NOT NULL;

-- Whose events are followed here, how far, and by which replica. Every write of an owner is conditional on its epoch.
-- Without a position the publisher's snapshot has to be taken first.
CREATE TABLE subscriptions (
  consumer    TEXT    NOT NULL,
  publisher   TEXT    NOT NULL,
  position    INTEGER,
  head        INTEGER NOT NULL,
  owner       TEXT,
  epoch       INTEGER NOT NULL,
  lease_until TEXT    NOT NULL,
  trouble     TEXT,
  updated_at  TEXT    NOT NULL,
  PRIMARY KEY (consumer, publisher)
) STRICT, WITHOUT ROWID;
