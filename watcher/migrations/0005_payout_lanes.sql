-- The signer's lane that a version is asked for in: noted before it is asked first, and kept whatever the configuration says later.
ALTER TABLE payout_versions ADD COLUMN lane TEXT;
