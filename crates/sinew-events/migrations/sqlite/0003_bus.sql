-- What happened up to here is in the snapshot that was taken last. A broker delivers it all the same, and not in order, so
-- the position cannot tell what is known.
ALTER TABLE subscriptions ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;
