"""Addresses: who an agent is. `type/key`, in full `tenant/type/key` with the tenant `default` hidden."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from aos.kernel.errors import InvalidAddress

DEFAULT_TENANT = "default"
MAX_ADDRESS = 128
"""Characters of `tenant/type/key`: the limit of a Service Bus session id."""

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.:@+-]+")
_FORBIDDEN_IN_KEY = frozenset("/\\#?|%")
"""Table storage forbids the first four in keys, `|` separates ours, `%` is decoded twice by some gateways."""


class Address(NamedTuple):
    """Who an agent is. Build it with `Address.of` or `Address.parse`, which check it."""

    tenant: str
    type: str
    key: str

    @classmethod
    def of(cls, type: str, key: str, tenant: str = DEFAULT_TENANT) -> Address:
        """The checked address, or `InvalidAddress` that names what is wrong."""
        if not _NAME.fullmatch(tenant):
            raise InvalidAddress(f"tenant {tenant!r} does not match [a-z][a-z0-9_.-]{{0,63}}")
        if not _NAME.fullmatch(type):
            raise InvalidAddress(f"agent type {type!r} does not match [a-z][a-z0-9_.-]{{0,63}}")
        if not _PLAIN_KEY.fullmatch(key):
            _check_key(key)
        if len(tenant) + len(type) + len(key) + 2 > MAX_ADDRESS:
            raise InvalidAddress(f"address {type}/{key[:40]}… is over {MAX_ADDRESS} characters with its tenant")
        return cls(tenant, type, key)

    @classmethod
    def parse(cls, text: str) -> Address:
        """`type/key` or `tenant/type/key`; `InvalidAddress` for anything else."""
        parts = text.split("/")
        if len(parts) == 2:
            return cls.of(parts[0], parts[1])
        if len(parts) == 3:
            return cls.of(parts[1], parts[2], parts[0])
        raise InvalidAddress(f"address {text[:80]!r} is neither type/key nor tenant/type/key")

    @classmethod
    def coerce(cls, to: Address | str) -> Address:
        """An address as it is, or the one that the text says."""
        return cls.parse(to) if isinstance(to, str) else to

    @property
    def log(self) -> str:
        """`tenant/type/key`: the name of the agent's ledger and its session on the bus."""
        return f"{self.tenant}/{self.type}/{self.key}"

    @property
    def partition(self) -> str:
        """`tenant|type|key`: the agent's partition in a store."""
        return f"{self.tenant}|{self.type}|{self.key}"

    @property
    def source(self) -> str:
        """The CloudEvents `source` of what this agent sends. Only the kernel sets it (P2)."""
        return f"aos:{self.tenant}/{self.type}/{self.key}"

    def __str__(self) -> str:
        return f"{self.type}/{self.key}" if self.tenant == DEFAULT_TENANT else self.log


def _check_key(key: str) -> None:
    if not key:
        raise InvalidAddress("the key of an address is empty")
    for char in key:
        if char in _FORBIDDEN_IN_KEY or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp"):
            raise InvalidAddress(f"key {key[:40]!r} holds the forbidden character {char!r}")
    if key != key.strip():
        raise InvalidAddress(f"key {key[:40]!r} begins or ends with white space")
    if not unicodedata.is_normalized("NFC", key):
        raise InvalidAddress(f"key {key[:40]!r} is not in Unicode normal form C, so two spellings would be two agents")
