-- How often a payout was denied for what may pass, and when it was tried last: while that is set, it waits for its turn.
ALTER TABLE payouts ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payouts ADD COLUMN tried_unix BIGINT;
UPDATE payouts SET tries = 1, tried_unix = CAST(strftime('%s', 'now') AS BIGINT)
WHERE state = 'accepted' AND version IS NULL AND reasons LIKE '%"code":"policy-denied"%'
    AND reasons NOT LIKE '%"code":"order-paid"%'
    AND NOT EXISTS (SELECT 1 FROM payout_versions v WHERE v.payout = payouts.id AND v.state IN ('asked', 'signed'));
