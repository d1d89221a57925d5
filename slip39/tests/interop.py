"""Both directions between our SLIP-39 and the reference implementation; called by scripts/slip39-interop.

Secrets here are random and thrown away. It fails at the first difference and names the case.
"""

import random
import secrets
import subprocess
import sys

from shamir_mnemonic import combine_mnemonics, generate_mnemonics

OURS = sys.argv[1]
# Group threshold, then threshold and count of each group.
SCHEMES = [
    (1, [(1, 1)]),
    (1, [(2, 3)]),
    (1, [(3, 5)]),
    (1, [(16, 16)]),
    (2, [(1, 1), (2, 3), (3, 5)]),
    (3, [(2, 2), (2, 5), (4, 7), (1, 1)]),
]
PASSPHRASES = ["", "TREZOR", "".join(map(chr, range(32, 127)))]


def ours(arguments, lines=()):
    """Runs our program, which fails loudly."""
    run = subprocess.run([OURS, *arguments], input="".join(f"{line}\n" for line in lines), capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"our side failed on {arguments[0]}: {run.stderr}")
    return run.stdout.splitlines()


def chosen(threshold, groups, shares):
    """A random set of shares that is just enough, in random order."""
    picked = []
    for number in random.sample(range(len(groups)), threshold):
        picked += random.sample(shares[number], groups[number][0])
    random.shuffle(picked)
    return picked


def grouped(groups, lines):
    """A flat list of shares as a list for each group."""
    lines = list(lines)
    return [[lines.pop(0) for _ in range(count)] for _, count in groups]


def main():
    cases = 0
    for threshold, groups in SCHEMES:
        for passphrase in PASSPHRASES:
            for extendable in (False, True):
                length = random.choice([16, 18, 24, 32, 64])
                exponent = random.choice([0, 1, 2])
                secret = secrets.token_bytes(length)
                case = f"{threshold} of {groups}, {length} bytes, exponent {exponent}, extendable {extendable}"

                made = generate_mnemonics(threshold, groups, secret, passphrase.encode(), extendable, exponent)
                [joined] = ours(["join", passphrase], chosen(threshold, groups, made))
                if joined != secret.hex():
                    sys.exit(f"we join the reference's shares to another secret: {case}")

                shape = [f"{needed}of{count}" for needed, count in groups]
                lines = ours(["split", secret.hex(), passphrase, str(exponent), str(extendable).lower(), str(threshold), *shape])
                if combine_mnemonics(chosen(threshold, groups, grouped(groups, lines)), passphrase.encode()) != secret:
                    sys.exit(f"the reference joins our shares to another secret: {case}")
                cases += 1
    print(f"slip39: {cases} secrets split here and joined by the reference, {cases} the other way round")


main()
