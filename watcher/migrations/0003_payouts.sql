-- A payout's row is named KEY/ID, since an order's id is its key's own; callers mostly ask by the id alone.
CREATE INDEX payouts_by_order ON payouts (tenant, substr(id, instr(id, '/') + 1));
CREATE INDEX payouts_waiting ON payouts (order_signer) WHERE state = 'accepted';
