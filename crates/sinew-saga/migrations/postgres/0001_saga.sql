-- One row per saga. due_at says when somebody may take it: the end of the owner's lease while it has an owner, null when
-- nobody ever should (ended, or parked for an operator). epoch grows with every owner; writes of older ones are refused.
CREATE TABLE sagas (
  saga_id       uuid        PRIMARY KEY,
  kind          text        NOT NULL,
  version       bigint      NOT NULL,
  phase         text        NOT NULL CHECK (phase IN ('started', 'processing', 'compensating', 'completed', 'failed')),
  step          bigint      NOT NULL CHECK (step >= 0),
  uncertain     boolean     NOT NULL,
  parked        boolean     NOT NULL,
  attempt       bigint      NOT NULL,
  reason_code   text,
  reason_detail text,
  cancel_code   text,
  last_error    text,
  data          jsonb       NOT NULL,
  traceparent   text,
  owner         text,
  epoch         bigint      NOT NULL,
  due_at        timestamptz,
  started_at    timestamptz NOT NULL,
  step_since    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL
);
CREATE INDEX sagas_due ON sagas (kind, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sagas_open ON sagas (kind, phase) WHERE phase IN ('started', 'processing', 'compensating');

-- What happened to each, in order.
CREATE TABLE saga_log (
  saga_id uuid        NOT NULL REFERENCES sagas,
  n       bigint      NOT NULL,
  epoch   bigint      NOT NULL,
  owner   text,
  at      timestamptz NOT NULL,
  step    text        NOT NULL,
  event   text        NOT NULL,
  detail  text        NOT NULL,
  PRIMARY KEY (saga_id, n)
);
