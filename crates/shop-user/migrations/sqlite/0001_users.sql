CREATE TABLE users (
  user_id       BLOB    PRIMARY KEY NOT NULL,
  email         TEXT    NOT NULL UNIQUE,
  name          TEXT    NOT NULL,
  role          TEXT    NOT NULL CHECK (role IN ('customer', 'admin')),
  password_hash TEXT    NOT NULL,
  version       INTEGER NOT NULL CHECK (version > 0),
  created_at    TEXT    NOT NULL,
  updated_at    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys that sign tokens, for all replicas. The generation is the primary key: of two replicas that make the next one, the
-- first wins and the other takes it over.
CREATE TABLE token_keys (
  generation INTEGER PRIMARY KEY NOT NULL,
  kid        TEXT NOT NULL UNIQUE,
  secret     BLOB NOT NULL,
  signs_from TEXT NOT NULL
) STRICT;
