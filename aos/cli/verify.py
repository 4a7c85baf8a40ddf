"""`aos verify`: finds out what is meant, verifies it, says what came of it and what was not proved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from aos.cli import Usage, halves
from aos.cli.printing import Printer
from aos.kernel import exported
from aos.kernel.address import Address
from aos.kernel.errors import InvalidAddress, StoreUnavailable

if TYPE_CHECKING:
    from aos.exporting import Sink

STORE = "aos.db"
HOME = ".aos"
_BUFFER = 1024 * 1024


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="aos verify",
        allow_abbrev=False,
        description="Prove the ledger: that records, links, times, payloads and live state are what was committed.",
        epilog="Exit status: 0 ok, 1 tampered, 2 incomplete or unavailable, 3 usage.",
    )
    parser.add_argument("target", nargs="?", metavar="FILE|AGENT", help="an export, or an agent of the store: type/key")
    parser.add_argument("--all", action="store_true", dest="every", help="every agent of the store")
    parser.add_argument(
        "--payloads",
        type=Path,
        metavar="FILE",
        help="payloads of the export (default: audit.payloads.jsonl beside audit.jsonl, if it is there)",
    )
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="write what is verified to this file, and the payloads beside it"
    )
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="where the store is (default: .aos here or in a folder above)"
    )
    parser.add_argument("--json", action="store_true", help="JSON Lines: one object a log, then one for all of them")
    return parser


def main(arguments: list[str]) -> int:
    """The exit code; the output is printed on the way."""
    given = _parser().parse_args(arguments)
    target: str | None = given.target
    if given.every == (target is not None):
        raise Usage("say what to verify: FILE, AGENT or --all (one of them)")
    printer = Printer(given.json)
    try:
        file = _file(target)
        if file is not None:
            _only("a file", export=given.export, home=given.home)
            return _verify_file(file, given.payloads, printer)
        agent = None if target is None else _agent(target)
        _only("a store", payloads=given.payloads)
        return _verify_store(agent, _store(given.home), given.export, printer)
    except (OSError, StoreUnavailable) as error:
        if isinstance(error, BrokenPipeError):
            raise
        return printer.unavailable(str(error))


def _file(target: str | None) -> Path | None:
    """The file of that name, if there is one."""
    try:
        return Path(target) if target is not None and Path(target).exists() else None
    except OSError:  # longer than a name may be
        return None


def _only(with_what: str, **options: Path | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise Usage(f"--{name} does not go with {with_what}")


def _agent(target: str) -> Address:
    try:
        return Address.parse(target)
    except InvalidAddress as error:
        raise Usage(f"there is no file {target!r}, and it is not an agent either: {error}") from None


# ------------------------------------------------------------------------------------------------------ an export


def _verify_file(records: Path, payloads: Path | None, printer: Printer) -> int:
    if records.is_dir():
        raise Usage(f"{records} is a folder; give an export, an agent or --all")
    beside = exported.payloads_beside(records)
    if payloads is None and beside.exists():
        payloads = beside
    for result in halves.verify(records, payloads):
        printer.log(result)
    return printer.end(file=True, payloads=payloads is not None)


# ------------------------------------------------------------------------------------------------------- a store


def _store(home: Path | None) -> Path:
    """The file of the embedded store."""
    if home is not None:
        places = [home / STORE, home / HOME / STORE]
    else:
        here = Path.cwd()
        places = [folder / HOME / STORE for folder in (here, *here.parents)]
    for place in places:
        if place.is_file():
            return place
    raise StoreUnavailable(f"no store at {places[0]}" + ("" if home else " or in a folder above"))


def _verify_store(agent: Address | None, path: Path, export: Path | None, printer: Printer) -> int:
    import asyncio

    with _export_to(export, printer) as files:
        asyncio.run(_verify_agents(agent, path, files, printer))
    return printer.end(file=False, payloads=True)


async def _verify_agents(
    agent: Address | None, path: Path, files: tuple[BinaryIO, BinaryIO] | None, printer: Printer
) -> None:
    from aos.audit import all_agents, unreadable, verify_agent, writer
    from aos.cli.readonly import ReadOnlyFile
    from aos.storage.blobs import SqliteBlobs
    from aos.storage.sqlite import SqliteStore

    file = ReadOnlyFile(path)
    store, blobs = SqliteStore(file), SqliteBlobs(file)

    async def one(agent: Address) -> None:
        sink: Sink | None = None if files is None else writer(agent, *files)
        try:
            printer.log(await verify_agent(store, blobs, agent, sink))
        except StoreUnavailable as error:
            printer.log(unreadable(agent, str(error)))

    await file.open()
    try:
        if agent is not None:
            await one(agent)
        else:
            async for found in all_agents(store):
                await one(found)
    finally:
        await file.close()


@contextmanager
def _export_to(records: Path | None, printer: Printer) -> Generator[tuple[BinaryIO, BinaryIO] | None]:
    """The two files of an export, which get their names when all of it is in them."""
    if records is None:
        yield None
        return
    paths = (records, exported.payloads_beside(records))
    for path in paths:
        if path.exists():
            raise Usage(f"{path} exists already, and an export is not overwritten")
    parts = [path.with_name(path.name + ".part") for path in paths]
    try:
        with _private(parts[0]) as first, _private(parts[1]) as second:
            yield first, second
        if printer.unreadable:
            print("aos: no export was written, because not everything could be read", file=sys.stderr)
            return
        for part, path in zip(parts, paths, strict=True):
            part.rename(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _private(path: Path) -> BinaryIO:
    """A new file that only its owner can read: payloads are the agents' data."""
    import os

    return os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb", _BUFFER)
