-- One row per payment that was ever heard of. The token is not kept, only a digest of the request it was part of.
CREATE TABLE payments (
  payment_id         BLOB    PRIMARY KEY NOT NULL,
  request            BLOB,
  customer_id        BLOB,
  minor_units        INTEGER CHECK (minor_units > 0),
  currency           TEXT,
  state              TEXT    NOT NULL CHECK (state IN ('pending', 'charged', 'declined', 'refunding', 'refunded', 'voided')),
  provider_reference TEXT,
  decline_reason     TEXT,
  version            INTEGER NOT NULL CHECK (version > 0),
  created_at         TEXT    NOT NULL,
  updated_at         TEXT    NOT NULL,
  -- Only the tombstone of a refund that came first has no request.
  CHECK (request IS NOT NULL AND customer_id IS NOT NULL AND minor_units IS NOT NULL AND currency IS NOT NULL
         OR request IS NULL AND state = 'voided'),
  CHECK (state <> 'charged' OR provider_reference IS NOT NULL),
  CHECK (state <> 'declined' OR decline_reason IS NOT NULL)
) STRICT, WITHOUT ROWID;
