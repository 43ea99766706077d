-- The provider's memory of each key.
CREATE TABLE charges (
  charge_key     BLOB    PRIMARY KEY NOT NULL,
  minor_units    INTEGER,
  currency       TEXT,
  state          TEXT    NOT NULL CHECK (state IN ('taken', 'declined', 'returned', 'closed')),
  reference      TEXT,
  decline_reason TEXT
) STRICT, WITHOUT ROWID;

-- Money that moved, in order: above zero when taken, below when given back. Nothing is ever changed here.
CREATE TABLE movements (
  movement_id INTEGER PRIMARY KEY AUTOINCREMENT,
  charge_key  BLOB    NOT NULL REFERENCES charges,
  minor_units INTEGER NOT NULL CHECK (minor_units <> 0),
  currency    TEXT    NOT NULL,
  moved_at    TEXT    NOT NULL
) STRICT;
CREATE INDEX movements_of_charge ON movements (charge_key);
