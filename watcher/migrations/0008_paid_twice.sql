-- What is looked through after every commit for payouts that were paid twice: the few of which more than a first version was signed, and
-- the settled ones that have something to say.
CREATE INDEX payout_versions_signed_again ON payout_versions (payout) WHERE state = 'signed' AND version > 1;
CREATE INDEX payouts_final_reasons ON payouts (id) WHERE state = 'final' AND reasons IS NOT NULL;
