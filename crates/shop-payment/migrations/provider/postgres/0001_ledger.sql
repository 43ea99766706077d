-- The provider's memory of each key.
CREATE TABLE charges (
  charge_key     uuid   PRIMARY KEY,
  minor_units    bigint,
  currency       text,
  state          text   NOT NULL CHECK (state IN ('taken', 'declined', 'returned', 'closed')),
  reference      text,
  decline_reason text
);

-- Money that moved, in order: above zero when taken, below when given back. Nothing is ever changed here.
CREATE TABLE movements (
  movement_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  charge_key  uuid        NOT NULL REFERENCES charges,
  minor_units bigint      NOT NULL CHECK (minor_units <> 0),
  currency    text        NOT NULL,
  moved_at    timestamptz NOT NULL
);
CREATE INDEX movements_of_charge ON movements (charge_key);
