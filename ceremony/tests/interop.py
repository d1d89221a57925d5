"""The way out without any program of ours: shares that a ceremony made are joined by the reference implementation of
SLIP-39, and BIP-32, written here anew, leads from their seed to the descriptor's xpub. Called by scripts/slip39-interop.
"""

import base64
import hashlib
import hmac
import itertools
import random
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from shamir_mnemonic import combine_mnemonics
from shamir_mnemonic.share import Share

CEREMONY = Path(sys.argv[1]).resolve()
# secp256k1
P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
HARDENED = 2**31


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = 3 * a[0] ** 2 * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def public(secret):
    """Its compressed public key."""
    point, power = None, G
    while secret:
        if secret & 1:
            point = add(point, power)
        power, secret = add(power, power), secret >> 1
    return bytes([2 + (point[1] & 1)]) + point[0].to_bytes(32, "big")


def account(seed, steps):
    """BIP-32: the public key and the chain code at the end of hardened steps."""
    made = hmac.new(b"Bitcoin seed", seed, hashlib.sha512).digest()
    for step in steps:
        data = b"\0" + made[:32] + (HARDENED + step).to_bytes(4, "big")
        child = hmac.new(made[32:], data, hashlib.sha512).digest()
        secret = (int.from_bytes(child[:32], "big") + int.from_bytes(made[:32], "big")) % N
        made = secret.to_bytes(32, "big") + child[32:]
    return public(int.from_bytes(made[:32], "big")), made[32:]


def base58(text):
    """The payload of base58check."""
    number = 0
    for letter in text:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(letter)
    data = number.to_bytes(82, "big")
    if hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] != data[-4:]:
        sys.exit(f"no base58check: {text}")
    return data[:-4]


def wrapping_key(folder):
    """A key for the bundle, which nobody can open: its modulus is no product of known primes. The command's options for it."""
    modulus = secrets.randbits(3072) | 2**3071 | 1
    der = lambda tag, body: bytes([tag, 0x82]) + len(body).to_bytes(2, "big") + body
    key = der(0x30, der(0x02, b"\0" + modulus.to_bytes(384, "big")) + bytes.fromhex("0203010001"))
    spki = der(0x30, bytes.fromhex("300d06092a864886f70d0101010500") + der(0x03, b"\0" + key))
    text = base64.encodebytes(spki).decode()
    (folder / "wrapping.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n")
    return ["--wrapping-key", "wrapping.pem", "--fingerprint", hashlib.sha256(spki).hexdigest()]


def ceremony(folder, *arguments):
    run = subprocess.run([CEREMONY, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"the ceremony failed: {run.stderr}")


def one(script, purpose, end, needed, count):
    """One ceremony, and every set of its shares that is just enough."""
    number = random.randrange(100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [f"share-{n}" for n in range(count)]
        outs = [word for file in files for word in ("--share-out", file)]
        tier = ["--tier", "sealed-hd"] if script == "tr" else ["--external", "1", "--change", "1"]
        ceremony(
            folder, "create", "--network", "regtest", "--wallet-account", str(number), "--script", script, *tier,
            "--out", "bundle", "--descriptor-out", "descriptor", *wrapping_key(folder), "--shares", f"{needed}of{count}", *outs,
        )  # fmt: skip
        shares = [(folder / file).read_text().strip() for file in files]
        descriptor = (folder / "descriptor").read_text()
    for share in map(Share.from_mnemonic, shares):
        # As the documents say, so that it can be joined by whoever reads them.
        found = (len(share.value), share.iteration_exponent, share.extendable, share.member_threshold)
        if found != (32, 1, True, needed):
            sys.exit(f"a share of {script} has (bytes, exponent, extendable, threshold) {found}")
    seeds = {combine_mnemonics(list(some), b"") for some in itertools.combinations(shares, needed)}
    if len(seeds) != 1:
        sys.exit(f"{script}: the reference joins different shares to different seeds")
    steps = [purpose, 1, number, *end]
    path, xpub = re.search(r"\[[0-9a-f]{8}/([^\]]*)\](tpub\w+)", descriptor).groups()
    if [int(step.rstrip("h'")) for step in path.split("/")] != steps:
        sys.exit(f"{script}: the descriptor's path is {path}")
    payload = base58(xpub)
    key, code = account(seeds.pop(), steps)
    # Version, depth, the parent's fingerprint, the last step; then what the seed decides.
    if (payload[4], payload[9:13]) != (len(steps), (HARDENED + steps[-1]).to_bytes(4, "big")) or payload[13:] != code + key:
        sys.exit(f"{script}: the seed does not give the descriptor's xpub")


def main():
    cases = [
        ("wpkh", 84, [], 2, 3),
        ("sh-wpkh", 49, [], 1, 1),
        ("pkh", 44, [], 3, 5),
        ("tr", 86, [], 2, 2),
        ("wsh-cosigner", 48, [2], 2, 3),
    ]
    for case in cases:
        one(*case)
    print(f"ceremony: shares of {len(cases)} ceremonies joined by the reference, and each seed gives its descriptor's xpub")


main()
