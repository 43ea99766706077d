CREATE TABLE users (
  user_id       uuid        PRIMARY KEY,
  email         text        NOT NULL UNIQUE,
  name          text        NOT NULL,
  role          text        NOT NULL CHECK (role IN ('customer', 'admin')),
  password_hash text        NOT NULL,
  version       bigint      NOT NULL CHECK (version > 0),
  created_at    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL
);

-- Keys that sign tokens, for all replicas. The generation is the primary key: of two replicas that make the next one, the
-- first wins and the other takes it over.
CREATE TABLE token_keys (
  generation bigint      PRIMARY KEY,
  kid        text        NOT NULL UNIQUE,
  secret     bytea       NOT NULL,
  signs_from timestamptz NOT NULL
);
