"""Runs the verifiers of docs/attestation.md on true and on altered attestations. See scripts/attestation-interop."""

import base64
import copy
import json
import pathlib
import re
import subprocess
import sys

PAGE, WORK = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

RUNNER = """
import { readFileSync } from "node:fs";
import { verify } from "./verifier.mjs";
const said = JSON.parse(readFileSync(process.argv[2], "utf8")).map((one) => {
  try { return verify(...one.arguments); } catch (error) { return null; }
});
console.log(JSON.stringify(said));
"""


def block(language, what="verifier"):
    """The page's one block of this language that is one of these."""
    found = re.findall(rf"^```{language} {what}\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    assert len(found) == 1, f"{PAGE} has {len(found)} blocks of {language} {what}"
    return found[0]


def flipped(text):
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(bytes(data)).decode()


def relined(text, line, new):
    lines = base64.b64decode(text).decode().split("\n")
    lines[line] = new
    return base64.b64encode("\n".join(lines).encode()).decode()


def alterations(issued, other):
    """The same answer with one thing changed in it, as whoever stands between could."""

    def change(what, edit):
        altered = copy.deepcopy(issued)
        edit(altered, altered["proof"])
        return what, altered

    def both(field, line, new):
        def edit(one, proof):
            one[field] = new
            proof["leaf"] = relined(proof["leaf"], line, str(new))

        return edit

    foreign = other["address"]
    yield change("address shown", lambda one, _: one.update(address=foreign))
    yield change("address shown and in the leaf", both("address", 4, foreign))
    yield change("index shown", lambda one, _: one.update(index=one.get("index", 0) + 1))
    yield change("index shown and in the leaf", both("index", 3, issued.get("index", 0) + 1))
    yield change("index spelled otherwise", both("index", 3, "0" + str(issued.get("index", 0))))
    yield change("reference in the leaf", lambda _, p: p.update(leaf=relined(p["leaf"], 5, "mallory")))
    yield change("wallet in the leaf", lambda _, p: p.update(leaf=relined(p["leaf"], 2, "hot")))
    yield change("network in the leaf", lambda _, p: p.update(leaf=relined(p["leaf"], 1, "bip122:0")))
    yield change("expiry in the leaf", lambda _, p: p.update(leaf=relined(p["leaf"], 6, "4000000001")))
    yield change("expiry with a sign", lambda _, p: p.update(leaf=relined(p["leaf"], 6, "+0")))
    yield change("a bit of the leaf", lambda _, p: p.update(leaf=flipped(p["leaf"])))
    yield change("a bit of the signature", lambda _, p: p.update(signature=flipped(p["signature"])))
    yield change("a bit of the root", lambda _, p: p.update(root=flipped(p["root"])))
    yield change("another batch's root", lambda _, p: p.update(root=other["proof"]["root"]))
    yield change("another address's proof", lambda one, _: one.update(proof=other["proof"]))
    yield change("a longer path", lambda _, p: p.update(path=p.get("path", []) + [p["root"]]))
    yield change("a place outside", lambda _, p: p.update(position=p["treeSize"]))
    yield change("a larger tree", lambda _, p: p.update(treeSize=p["treeSize"] * 2))
    yield change("an empty tree", lambda _, p: p.update(treeSize=0))
    for nth in range(len(issued["proof"].get("path", []))):

        def edit(_, proof, nth=nth):
            proof["path"][nth] = flipped(proof["path"][nth])

        yield change(f"a bit of path {nth}", edit)
        yield change(f"path without {nth}", lambda _, p, nth=nth: p["path"].pop(nth))
    if issued["proof"]["treeSize"] > 1:
        yield change("another place", lambda _, p: p.update(position=(p["position"] + 1) % p["treeSize"]))


def cases(settings):
    """What to check, and the address that must come out, or none."""
    read = [json.loads((WORK / f"{n}.json").read_text()) for n in range(settings["count"])]
    pinned = (settings["key"], settings["network"], settings["wallet"])
    for issued in read:
        reference = issued["customerReference"]
        other = next(one for one in read if one["proof"]["root"] != issued["proof"]["root"])
        expired = reference == "expired"
        yield "true", [json.dumps(issued), *pinned, reference], None if expired else issued["address"]
        if expired:
            continue
        for what, altered in alterations(issued, other):
            yield what, [json.dumps(altered), *pinned, reference], None
        key, network, wallet = pinned
        answer = json.dumps(issued)
        yield "another reference", [answer, *pinned, reference + "x"], None
        yield "another key", [answer, bytes(32).hex(), network, wallet, reference], None
        yield "another network", [answer, key, "bip122:0", wallet, reference], None
        yield "another wallet", [answer, key, network, "hot", reference], None


def by_python(checked):
    scope = {}
    exec(compile(block("python"), str(PAGE), "exec"), scope)
    said = []
    for _, arguments, _ in checked:
        try:
            said.append(scope["verify"](*arguments))
        except Exception:
            said.append(None)
    return said


def by_javascript(checked):
    (WORK / "verifier.mjs").write_text(block("js"))
    (WORK / "runner.mjs").write_text(RUNNER)
    (WORK / "cases.json").write_text(json.dumps([{"arguments": arguments} for _, arguments, _ in checked]))
    ran = subprocess.run(["node", WORK / "runner.mjs", WORK / "cases.json"], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


def token_key(settings):
    """The document about a token key, whole, and with each byte changed."""
    scope = {}
    exec(compile(block("python", "token-key"), str(PAGE), "exec"), scope)
    document = (WORK / "vault-1.attested").read_bytes()
    pinned = (settings["key"], settings["network"], settings["tokenKey"])
    assert scope["verify"](document, *pinned) == "vault-1"
    altered = [(bytearray(document), pinned) for _ in range(document.rindex(b"signature "))]
    for at, (changed, _) in enumerate(altered):
        changed[at] ^= 1
    altered += [(document, (bytes(32).hex(), *pinned[1:])), (document, (pinned[0], "bip122:0", pinned[2]))]
    altered += [(document, (*pinned[:2], "02" + "00" * 32))]
    for changed, against in altered:
        try:
            said = scope["verify"](bytes(changed), *against)
        except Exception:
            continue
        raise AssertionError(f"{said}: {changed}, {against}")
    print(f"Python: 1 token key taken, {len(altered)} altered ones refused")


token_key(json.loads((WORK / "settings.json").read_text()))
checked = list(cases(json.loads((WORK / "settings.json").read_text())))
good = sum(expected is not None for _, _, expected in checked)
assert good >= 8, f"only {good} attestations are there"
for language, said in [("Python", by_python(checked)), ("JavaScript", by_javascript(checked))]:
    assert len(said) == len(checked)
    for (what, arguments, expected), result in zip(checked, said):
        assert result == expected, f"{language}, {what}: {result} instead of {expected}, for {arguments}"
    print(f"{language}: {good} attestations taken, {len(checked) - good} altered or expired ones refused")
