"""Verify an export of AOS ledgers: verify_export.py RECORDS [PAYLOADS]. Exits 0 ok, 1 tampered, 2 incomplete."""

import json
import re
import sys
from base64 import b64decode
from hashlib import sha256

TYPES = dict(entries=list, host=dict, log=str, prev=str, seq=int, state=dict, ts=int, turn=str, v=int)
KEY, COMMITMENT = re.compile("[a-z0-9_]{1,32}"), re.compile(rb'\{"h":"([0-9a-f]{64})","n":([0-9]+)\}')
NUMBERS = dict(parse_int=lambda n: need(abs(int(n)) < 2**53, n) or int(n), parse_float=int, parse_constant=int)
log, seq, prev, ts, erased, missing = "", 0, "", 0, set(), set()


def need(fits, what):
    fits or sys.exit(print(f"TAMPERED: {log}, record {seq}: {what}") or 1)


lines, *payloads = [open(name, "rb").readlines() for name in sys.argv[1:]]  # noqa: PTH123, SIM115
given = {(p["log"], p["seq"], p["h"]): p for file in payloads for p in map(json.loads, file)}
for line in lines:
    r = json.loads(line, object_hook=lambda o: need(all(map(KEY.fullmatch, o)), f"a key in {o}") or o, **NUMBERS)
    same = json.dumps(r, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    need(same == line.removesuffix(b"\n"), "it is not in canonical form")
    need({name: type(r[name]) for name in r} == TYPES and r["v"] == 1 and r["entries"], "other fields than of a record")
    if r["log"] != log:
        need(r["log"] > log, f"the log {r['log']} is out of order")
        log, seq, prev, ts = r["log"], 0, sha256(b"aos/ledger/v1\n" + r["log"].encode()).hexdigest(), 0
    need((r["seq"], r["prev"]) == (seq, prev) and r["ts"] >= ts, "it does not follow from the record before")
    for h, n in COMMITMENT.findall(same)[:-1] if payloads else ():  # the last one is to the state, which is not here
        p = given.pop((log, seq, h.decode()), None) or missing.add((log, seq))
        data = p and (p["data"].encode() if "data" in p else b64decode(p["b64"]))
        hash = p and sha256(b"\2" + bytes.fromhex(p["salt"]) + data).hexdigest()
        need(not p or (hash, len(data)) == (h.decode(), int(n)), "a payload is not the one that it commits to")
    erased |= {(log, n) for e in r["entries"] if e["k"] == "erased" for n in range(e["first"], min(e["last"] + 1, seq))}
    prev, seq, ts = sha256(b"\0" + same).hexdigest(), seq + 1, r["ts"]
need(not given, f"no record commits to the payloads {list(given)[:3]}")
print(f"{len(lines)} records, the last one hashes to {prev}; {len(missing - erased)} records lack payloads")
sys.exit(2 if missing - erased or not lines else 0)
