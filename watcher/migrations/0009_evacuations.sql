-- The signer's lane that an evacuation's sweep is asked for by; NULL for that of sweeps.
ALTER TABLE sweeps ADD COLUMN lane TEXT;
CREATE INDEX sweeps_evacuating ON sweeps (wallet, lane) WHERE lane IS NOT NULL;
