CREATE TABLE products (
  product_id  uuid        PRIMARY KEY,
  title       text        NOT NULL,
  description text        NOT NULL,
  minor_units bigint      NOT NULL CHECK (minor_units > 0),
  currency    text        NOT NULL,
  version     bigint      NOT NULL CHECK (version > 0),
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL
);
