-- What steps answered when they were done, by their names: {"charge": {"reference": "ch_1"}}.
ALTER TABLE sagas ADD COLUMN outputs jsonb NOT NULL DEFAULT '{}';
