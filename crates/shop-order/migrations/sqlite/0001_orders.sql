-- Copies of what the user and product services own, no older than their last event. The order path asks nobody else.
CREATE TABLE users (
  user_id BLOB    PRIMARY KEY NOT NULL,
  name    TEXT    NOT NULL,
  version INTEGER NOT NULL
) STRICT;
CREATE TABLE products (
  product_id BLOB PRIMARY KEY NOT NULL,
  name       TEXT   NOT NULL,
  amount     INTEGER NOT NULL CHECK (amount > 0),
  currency   TEXT   NOT NULL,
  version    INTEGER NOT NULL
) STRICT;

CREATE TABLE orders (
  order_id        BLOB PRIMARY KEY NOT NULL,
  customer_id     BLOB        NOT NULL,
  customer_name   TEXT        NOT NULL,
  total           INTEGER      NOT NULL CHECK (total > 0),
  currency        TEXT        NOT NULL,
  state           TEXT        NOT NULL CHECK (state IN ('started', 'processing', 'completed', 'compensating', 'failed')),
  failure_reason  TEXT,
  failure_message TEXT,
  version         INTEGER      NOT NULL,
  created_at      TEXT NOT NULL,
  updated_at      TEXT NOT NULL
) STRICT;
CREATE INDEX orders_of_customer ON orders (customer_id, order_id);

-- Names and prices of the moment, for ever.
CREATE TABLE order_lines (
  order_id     BLOB   NOT NULL REFERENCES orders,
  line         INTEGER NOT NULL,
  product_id   BLOB   NOT NULL,
  product_name TEXT   NOT NULL,
  quantity     INTEGER NOT NULL CHECK (quantity > 0),
  amount       INTEGER NOT NULL CHECK (amount > 0),
  PRIMARY KEY (order_id, line)
) STRICT;
