-- What lies in the warehouse. The checks are the last line of defence: whatever the code does, no stock is promised twice.
CREATE TABLE stock (
  product_id BLOB    PRIMARY KEY NOT NULL,
  on_hand    INTEGER NOT NULL CHECK (on_hand >= 0),
  reserved   INTEGER NOT NULL CHECK (reserved >= 0),
  version    INTEGER NOT NULL CHECK (version >= 0),
  CHECK (reserved <= on_hand)
) STRICT, WITHOUT ROWID;

-- One row per order that was ever heard of. A released row without lines is the tombstone of a release that came first.
CREATE TABLE reservations (
  reservation_id BLOB PRIMARY KEY NOT NULL,
  state          TEXT NOT NULL CHECK (state IN ('reserved', 'refused', 'released')),
  created_at     TEXT NOT NULL,
  updated_at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- short_of: how many there were when the line was refused; null when the line was not what was short.
CREATE TABLE reservation_lines (
  reservation_id BLOB    NOT NULL REFERENCES reservations,
  product_id     BLOB    NOT NULL,
  quantity       INTEGER NOT NULL CHECK (quantity > 0),
  short_of       INTEGER CHECK (short_of >= 0 AND short_of < quantity),
  PRIMARY KEY (reservation_id, product_id)
) STRICT, WITHOUT ROWID;
