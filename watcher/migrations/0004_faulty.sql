-- A coin at which the signer or its token failed: until then no plan takes it, and how often it failed.
ALTER TABLE coins ADD COLUMN faulty_until_unix BIGINT;
ALTER TABLE coins ADD COLUMN faults BIGINT NOT NULL DEFAULT 0;
