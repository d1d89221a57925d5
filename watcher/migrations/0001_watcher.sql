-- The watcher's whole state. Everything here can be rebuilt from the chain and the signer but for
-- keys, references, leases, sweeps and payouts; none of it can move a coin.
--
-- Conventions: txids and block hashes are 32 bytes in wire order; amounts are 16 bytes, big-endian,
-- in base units; times are Unix seconds; enumerations are the lower-case words their Rust types print.

-- One row: which chain this database follows. A database is never moved to another chain.
CREATE TABLE chain (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    chain  TEXT NOT NULL,              -- CAIP-2
    asset  TEXT NOT NULL               -- CAIP-19 of the native asset
);

-- One ordered event log per tenant. last_sequence is raised in the same transaction as the state.
CREATE TABLE tenants (
    tenant         TEXT PRIMARY KEY,
    last_sequence  BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE events (
    tenant    TEXT   NOT NULL REFERENCES tenants (tenant),
    sequence  BIGINT NOT NULL,         -- 1, 2, 3, ... without gaps
    at_unix   BIGINT NOT NULL,
    kind      TEXT   NOT NULL,         -- deposit.seen, sweep.broadcast, ...
    object    TEXT   NOT NULL,         -- id of what it is about
    body      TEXT   NOT NULL,         -- JSON with its schema version
    PRIMARY KEY (tenant, sequence)
);

CREATE TABLE wallets (
    wallet         TEXT PRIMARY KEY,
    tenant         TEXT   NOT NULL REFERENCES tenants (tenant),
    family         TEXT   NOT NULL,    -- chain family, 'bitcoin'
    purpose        TEXT   NOT NULL,    -- deposits, hot, cold
    descriptor     TEXT   NOT NULL,    -- multipath, with checksum; never changes
    birthday       BIGINT NOT NULL,    -- first height that can hold its coins
    next_external  BIGINT NOT NULL DEFAULT 0,  -- next address to issue, or next cold index to use
    next_change    BIGINT NOT NULL DEFAULT 0,  -- next change index to use
    -- Blocks from here to the cursor are to be read again: scripts were added late.
    rescan_from    BIGINT
);

-- Every script we look for. Derived once, kept: a start never derives them again.
-- number rises with each new script; the follower loads what is above the number it has.
CREATE TABLE scripts (
    number  INTEGER PRIMARY KEY,
    wallet  TEXT   NOT NULL REFERENCES wallets (wallet),
    branch  BIGINT NOT NULL,           -- 0 external, 1 change
    idx     BIGINT NOT NULL,
    script  BLOB   NOT NULL UNIQUE,    -- scriptPubKey
    UNIQUE (wallet, branch, idx)
);

-- Addresses given to callers. A row is made (reserved) before the signer is asked.
CREATE TABLE addresses (
    wallet              TEXT   NOT NULL REFERENCES wallets (wallet),
    idx                 BIGINT NOT NULL,
    tenant              TEXT   NOT NULL REFERENCES tenants (tenant),
    idempotency_key     TEXT   NOT NULL,
    customer_reference  TEXT   NOT NULL,
    address             TEXT   NOT NULL,
    state               TEXT   NOT NULL,   -- reserved, issued
    reserved_unix       BIGINT NOT NULL,
    reserved_height     BIGINT NOT NULL,   -- the cursor then: where to look again after a restore
    tier                TEXT,
    proof               BLOB,              -- proto AddressProof, as the signer gave it
    PRIMARY KEY (wallet, idx),
    UNIQUE (tenant, idempotency_key)
);

-- Indexes the signer refused as not proven yet: they go to the next caller, so nothing is wasted.
CREATE TABLE free_indexes (
    wallet  TEXT   NOT NULL REFERENCES wallets (wallet),
    idx     BIGINT NOT NULL,
    PRIMARY KEY (wallet, idx)
);

-- One row: the last block connected, and the highest script number that was matched against it and
-- everything after. An address is given out only when its script's number is at or below that mark.
CREATE TABLE cursor (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    height  BIGINT NOT NULL,
    hash    BLOB   NOT NULL,
    mark    BIGINT NOT NULL
);

-- The chain as far as it is connected; a disconnect deletes its row.
CREATE TABLE blocks (
    height  BIGINT PRIMARY KEY,
    hash    BLOB   NOT NULL UNIQUE,
    parent  BLOB   NOT NULL
);

-- Every transaction that pays one of our scripts or spends one of our coins. Rows stay.
CREATE TABLE transactions (
    txid             BLOB   PRIMARY KEY,
    raw              BLOB   NOT NULL,      -- consensus encoding; parents for the signer come from here
    coinbase         BOOLEAN NOT NULL,
    state            TEXT   NOT NULL,      -- mempool, block, gone
    height           BIGINT,               -- with state block
    block_hash       BLOB,
    gone_reason      TEXT,                 -- with state gone: evicted, replaced, conflicted, reorged
    gone_by          BLOB,                 -- the transaction that took its place, when known
    first_seen_unix  BIGINT NOT NULL
);
CREATE INDEX transactions_by_state ON transactions (state, height);

-- What those transactions spend (all their inputs, ours or not): finds spenders and conflicts.
CREATE TABLE transaction_inputs (
    txid       BLOB   NOT NULL REFERENCES transactions (txid),
    prev_txid  BLOB   NOT NULL,
    prev_vout  BIGINT NOT NULL,
    PRIMARY KEY (txid, prev_txid, prev_vout)
);
CREATE INDEX transaction_inputs_by_outpoint ON transaction_inputs (prev_txid, prev_vout);

-- Outputs that pay our scripts, change included. The follower owns every column but lease.
CREATE TABLE coins (
    txid          BLOB    NOT NULL REFERENCES transactions (txid),
    vout          BIGINT  NOT NULL,
    wallet        TEXT    NOT NULL REFERENCES wallets (wallet),
    branch        BIGINT  NOT NULL,
    idx           BIGINT  NOT NULL,
    amount        BLOB    NOT NULL,
    script        BLOB    NOT NULL,
    coinbase      BOOLEAN NOT NULL,
    chain_state   TEXT    NOT NULL,        -- seen, confirming, final, gone
    height        BIGINT,
    block_hash    BLOB,
    spent_txid    BLOB,                    -- live spender we know of, in mempool or block
    spent_height  BIGINT,                  -- null while the spender is in the mempool
    screening     TEXT    NOT NULL,        -- unscreened, clear, held
    -- Custody lease: who may build transactions with this coin, 'sweep/ID' or 'payout/ID'.
    -- One holder at a time; taken and given back by sweep.rs and payout.rs, never by time alone.
    lease         TEXT,
    PRIMARY KEY (txid, vout)
);
CREATE INDEX coins_by_wallet ON coins (wallet, chain_state);
CREATE INDEX coins_by_height ON coins (chain_state, height);
CREATE INDEX coins_by_spender ON coins (spent_txid);
CREATE INDEX coins_by_lease ON coins (lease);

-- What customers paid us. Keyed by TransferId; the block reference is outside the key.
CREATE TABLE deposits (
    chain             TEXT   NOT NULL,     -- CAIP-2
    txid              BLOB   NOT NULL,
    kind              TEXT   NOT NULL,     -- utxo
    idx               BIGINT NOT NULL,     -- output index for a utxo
    tenant            TEXT   NOT NULL REFERENCES tenants (tenant),
    first_sequence    BIGINT NOT NULL,     -- sequence of its first event; the order of lists
    wallet            TEXT   NOT NULL REFERENCES wallets (wallet),
    address_index     BIGINT NOT NULL,
    asset             TEXT   NOT NULL,     -- CAIP-19
    amount            BLOB   NOT NULL,
    chain_state       TEXT   NOT NULL,     -- seen, confirming, final, gone
    credit_state      TEXT   NOT NULL,     -- none, credited, reversed
    custody_state     TEXT   NOT NULL,     -- ours, leased, swept
    screening_state   TEXT   NOT NULL,     -- unscreened, clear, held
    height            BIGINT,
    block_hash        BLOB,
    first_seen_unix   BIGINT NOT NULL,
    PRIMARY KEY (chain, txid, kind, idx),
    UNIQUE (tenant, first_sequence)
);
CREATE INDEX deposits_by_address ON deposits (wallet, address_index);

-- Sweeps to cold storage. The row is made before the signer is asked.
CREATE TABLE sweeps (
    id                TEXT   PRIMARY KEY,
    tenant            TEXT   NOT NULL REFERENCES tenants (tenant),
    number            BIGINT NOT NULL,     -- 1, 2, 3, ... per tenant; the order of lists
    idempotency_key   TEXT   NOT NULL,
    request           BLOB   NOT NULL,     -- SHA-256 of what the caller asked
    wallet            TEXT   NOT NULL REFERENCES wallets (wallet),
    cold_wallet       TEXT   NOT NULL REFERENCES wallets (wallet),
    cold_index        BIGINT NOT NULL,
    state             TEXT   NOT NULL,     -- planned, refused, signed, broadcast, confirming, final, replaced
    psbt              BLOB   NOT NULL,     -- unsigned, as sent to the signer
    txid              BLOB,                -- fixed with the plan: segwit ids do not depend on signatures
    to_cold           BLOB   NOT NULL,
    fee               BLOB   NOT NULL,
    height            BIGINT,
    block_hash        BLOB,
    reasons           TEXT,                -- JSON [{code, text}], when refused
    replaced_by       TEXT REFERENCES sweeps (id),
    replaces          TEXT REFERENCES sweeps (id),
    created_unix      BIGINT NOT NULL,
    UNIQUE (tenant, idempotency_key),
    UNIQUE (tenant, number)
);
CREATE INDEX sweeps_by_state ON sweeps (state);
CREATE INDEX sweeps_by_txid ON sweeps (txid);

CREATE TABLE sweep_inputs (
    sweep     TEXT   NOT NULL REFERENCES sweeps (id),
    position  BIGINT NOT NULL,
    txid      BLOB   NOT NULL,
    vout      BIGINT NOT NULL,
    amount    BLOB   NOT NULL,
    PRIMARY KEY (sweep, position)
);
CREATE INDEX sweep_inputs_by_coin ON sweep_inputs (txid, vout);

-- Payouts, keyed by the id in the signed order.
CREATE TABLE payouts (
    id               TEXT   PRIMARY KEY,
    tenant           TEXT   NOT NULL REFERENCES tenants (tenant),
    wallet           TEXT   NOT NULL REFERENCES wallets (wallet),
    order_bytes      BLOB   NOT NULL,
    order_signature  BLOB   NOT NULL,
    order_signer     TEXT   NOT NULL,
    asset            TEXT   NOT NULL,
    amount           BLOB   NOT NULL,
    destination      TEXT   NOT NULL,
    expires_unix     BIGINT NOT NULL,
    state            TEXT   NOT NULL,      -- accepted, refused, signed, broadcast, confirming, final
    version          BIGINT,               -- the one in force
    height           BIGINT,
    block_hash       BLOB,
    reasons          TEXT,                 -- JSON [{code, text}], when refused
    created_unix     BIGINT NOT NULL
);
CREATE INDEX payouts_by_state ON payouts (state);

-- Each transaction that tries to pay a payout; all of one payout conflict with each other.
CREATE TABLE payout_versions (
    payout        TEXT   NOT NULL REFERENCES payouts (id),
    version       BIGINT NOT NULL,
    psbt          BLOB   NOT NULL,
    txid          BLOB   NOT NULL,
    fee           BLOB   NOT NULL,
    change_index  BIGINT,
    state         TEXT   NOT NULL,         -- planned, refused, signed
    created_unix  BIGINT NOT NULL,
    PRIMARY KEY (payout, version)
);
CREATE INDEX payout_versions_by_txid ON payout_versions (txid);

CREATE TABLE payout_inputs (
    payout    TEXT   NOT NULL,
    version   BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    txid      BLOB   NOT NULL,
    vout      BIGINT NOT NULL,
    amount    BLOB   NOT NULL,
    PRIMARY KEY (payout, version, position),
    FOREIGN KEY (payout, version) REFERENCES payout_versions (payout, version)
);
CREATE INDEX payout_inputs_by_coin ON payout_inputs (txid, vout);

-- Transactions the signer signed for us, kept before they are broadcast so that a crash loses none.
CREATE TABLE made_transactions (
    txid             BLOB   PRIMARY KEY,
    raw              BLOB   NOT NULL,
    kind             TEXT   NOT NULL,      -- sweep, payout
    object           TEXT   NOT NULL,      -- the sweep's or payout's id
    made_unix        BIGINT NOT NULL,
    broadcast_unix   BIGINT                -- last time the node took it
);
CREATE INDEX made_transactions_by_object ON made_transactions (kind, object);
