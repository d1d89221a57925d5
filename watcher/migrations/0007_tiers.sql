-- Where a wallet's keys are, as the signer said it last; NULL until it has. Another tier is another wallet.
ALTER TABLE wallets ADD COLUMN tier TEXT;
