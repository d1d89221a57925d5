-- What sweeps need beyond the first schema.

-- 'pending' on a replaced sweep until its surviving coins are swept again (or found spent, gone or taken).
ALTER TABLE sweeps ADD COLUMN recut TEXT;
CREATE INDEX sweeps_to_recut ON sweeps (recut) WHERE recut IS NOT NULL;

-- A plan looks at unspent coins only; a wallet's history is mostly spent ones.
CREATE INDEX coins_unspent ON coins (wallet) WHERE spent_txid IS NULL;
