-- Copies of what the user and product services own, no older than their last event. The order path asks nobody else.
CREATE TABLE users (
  user_id uuid   PRIMARY KEY,
  name    text   NOT NULL,
  version bigint NOT NULL
);
CREATE TABLE products (
  product_id uuid   PRIMARY KEY,
  name       text   NOT NULL,
  amount     bigint NOT NULL CHECK (amount > 0),
  currency   text   NOT NULL,
  version    bigint NOT NULL
);

CREATE TABLE orders (
  order_id        uuid        PRIMARY KEY,
  customer_id     uuid        NOT NULL,
  customer_name   text        NOT NULL,
  total           bigint      NOT NULL CHECK (total > 0),
  currency        text        NOT NULL,
  state           text        NOT NULL CHECK (state IN ('started', 'processing', 'completed', 'compensating', 'failed')),
  failure_reason  text,
  failure_message text,
  version         bigint      NOT NULL,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL
);
CREATE INDEX orders_of_customer ON orders (customer_id, order_id);

-- Names and prices of the moment, for ever.
CREATE TABLE order_lines (
  order_id     uuid   NOT NULL REFERENCES orders,
  line         bigint NOT NULL,
  product_id   uuid   NOT NULL,
  product_name text   NOT NULL,
  quantity     bigint NOT NULL CHECK (quantity > 0),
  amount       bigint NOT NULL CHECK (amount > 0),
  PRIMARY KEY (order_id, line)
);
