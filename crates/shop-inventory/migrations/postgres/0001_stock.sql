-- What lies in the warehouse. The checks are the last line of defence: whatever the code does, no stock is promised twice.
CREATE TABLE stock (
  product_id uuid   PRIMARY KEY,
  on_hand    bigint NOT NULL CHECK (on_hand >= 0),
  reserved   bigint NOT NULL CHECK (reserved >= 0),
  version    bigint NOT NULL CHECK (version >= 0),
  CHECK (reserved <= on_hand)
);

-- One row per order that was ever heard of. A released row without lines is the tombstone of a release that came first.
CREATE TABLE reservations (
  reservation_id uuid        PRIMARY KEY,
  state          text        NOT NULL CHECK (state IN ('reserved', 'refused', 'released')),
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL
);

-- short_of: how many there were when the line was refused; null when the line was not what was short.
CREATE TABLE reservation_lines (
  reservation_id uuid   NOT NULL REFERENCES reservations,
  product_id     uuid   NOT NULL,
  quantity       bigint NOT NULL CHECK (quantity > 0),
  short_of       bigint CHECK (short_of >= 0 AND short_of < quantity),
  PRIMARY KEY (reservation_id, product_id)
);
