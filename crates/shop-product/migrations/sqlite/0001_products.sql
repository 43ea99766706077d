CREATE TABLE products (
  product_id  BLOB    PRIMARY KEY NOT NULL,
  title       TEXT    NOT NULL,
  description TEXT    NOT NULL,
  minor_units INTEGER NOT NULL CHECK (minor_units > 0),
  currency    TEXT    NOT NULL,
  version     INTEGER NOT NULL CHECK (version > 0),
  created_at  TEXT    NOT NULL,
  updated_at  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
