-- Events up to this position are no longer kept.
INSERT INTO counters (name, n) VALUES ('outbox_floor', 0);
CREATE INDEX outbox_age ON outbox (occurred_at) WHERE pos IS NOT NULL;

-- Whose events are followed here, how far, and by which replica. Every write of an owner is conditional on its epoch.
-- Without a position the publisher's snapshot has to be taken first.
CREATE TABLE subscriptions (
  consumer    text        NOT NULL,
  publisher   text        NOT NULL,
  position    bigint,
  head        bigint      NOT NULL,
  owner       text,
  epoch       bigint      NOT NULL,
  lease_until timestamptz NOT NULL,
  trouble     text,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (consumer, publisher)
);
