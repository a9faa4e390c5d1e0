"""Fetch public data sets, checked: what lands under its name is complete and the right file."""

import hashlib
import http.client
import logging
import lzma
import os
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from mace_gaunt.data.readers import COMPRESSION
from mace_gaunt.data.threebpa import list_splits
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class PublicFile:
    """A file to fetch and how to know that it is the right one.

    Attributes:
        n_frames: Number of structures, None when unknown.
        sha256: Of the content, None when unknown.
        git_blob: First digits of its git blob id, None when unknown.
        optional: Whether the set is complete without it.
    """

    n_frames: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class PublicSet:
    """A data set: the address of its files, where people find it, and its splits by name."""

    address: str
    by_hand: str
    files: dict[str, PublicFile]


BOTNET = "https://raw.githubusercontent.com/davkovacs/BOTNet-datasets/main"

SETS = {
    "3bpa": PublicSet(
        address=f"{BOTNET}/dataset_3BPA",
        by_hand="`git clone https://github.com/davkovacs/BOTNet-datasets`, then copy dataset_3BPA/*.xyz",
        files={
            "train_300K": PublicFile(500, sha256="d109971fab90e2231ad931a83eb704c8d940f5c7d7a8de27fe3b84ea18634c0a"),
            "train_mixedT": PublicFile(500, sha256="bc108532964b2ed259eaaabf82e5dfaffa5bda9ac384fc2afabcce192a49250b"),
            "iso_atoms": PublicFile(4, sha256="e12a2465a2612bf38fd5dabdf64d4b57fc58ce9610a858c54ea1142d517c053f"),
            "test_300K": PublicFile(1669, git_blob="6ea840df"),
            "test_600K": PublicFile(2138, git_blob="681d24ee"),
            "test_1200K": PublicFile(2139),
            "test_dih": PublicFile(7047),
            "test_dih_beta120": PublicFile(optional=True),
            "test_dih_beta150": PublicFile(optional=True),
            "test_dih_beta180": PublicFile(optional=True),
        },
    ),
    "acac": PublicSet(
        address=f"{BOTNET}/dataset_acac",
        by_hand="`git clone https://github.com/davkovacs/BOTNet-datasets`, then copy dataset_acac/*.xyz",
        files={
            "train_300K": PublicFile(500, sha256="8f5706d6902360555a5be59395612d2afc3489a75688388a58e7275fdad68af3"),
            "train_600K": PublicFile(500, sha256="180c2538508f7810a623c279426f44953ee7cfb2af77e48ea3986ff97645a71c"),
            "isolated_atoms": PublicFile(3, sha256="b74f321b453374621b447d65c60979f70df1b7182c8ee0215388b2c574f33823"),
            "test_MD_300K": PublicFile(650, sha256="2291f3186a3cc6a5e05e92952c84a9237ca53f862d78fd3316a769360719ec43"),
            "test_MD_600K": PublicFile(650),
            "test_dihedral": PublicFile(45, sha256="0c2246a593579de5a4450698d5f4ba5802b095824b7f211aa5889339967c6809"),
            "test_H_transfer": PublicFile(
                15, sha256="ea4d76c79cf4cfccd2f93eaf755172b0b648886c4907eb0f82dff07a77530743"
            ),
        },
    ),
}


def download(name: str, root: str | Path | None = None, address: str | None = None) -> dict[str, str]:
    """Fetch a data set into a folder; files that are there and right are kept.

    Args:
        name: A key of SETS.
        root: Folder of the splits; None is where `data=NAME` looks.
        address: Where to fetch from instead of the public address (a mirror).

    Returns:
        Split -> what happened: "fetched", "already there" or "not at the address" (optional ones only).

    Raises:
        UserError: If there is no such set, the network does not answer, a file is not at the address, or a file there
            or here is not the one expected. Nothing incomplete is left.
    """
    if name not in SETS:
        raise UserError(f"no public data set '{name}'.{nearest(name, SETS)}")
    public, folder = SETS[name], place_of(name, root)
    done: dict[str, str] = {}
    for split, expected in public.files.items():
        done[split] = _get(split, expected, folder, address or public.address, public.by_hand)
        log.info("%s: %s", split, done[split])
    return done


def place_of(name: str, root: str | Path | None) -> Path:
    """The folder of a set: the one given, else $MACE_GAUNT_DATA/NAME, else data/NAME."""
    return Path(root or Path(os.environ.get("MACE_GAUNT_DATA", "data")) / name).expanduser()


def _get(split: str, expected: PublicFile, folder: Path, address: str, by_hand: str) -> str:
    """One file: look whether it is there, else fetch, check and name it."""
    there = list_splits(folder).get(split)
    if there is not None:
        _check(_content(there), expected, str(there), "Move it away.")
        return "already there"
    url = f"{address.rstrip('/')}/{split}.xyz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        if error.code == 404 and expected.optional:
            return "not at the address"
        raise UserError(f"{url} answers {error.code} {error.reason}. By hand: {by_hand} to {folder}.") from error
    except ValueError as error:
        raise UserError(f"address={address}: {error}. It begins with https://, http:// or file://.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot fetch {url}: {reason}. Without a network here: on a machine that has one, {by_hand} to {folder}."
        ) from error
    _check(content, expected, url, "Nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{split}.xyz.partial"
    partial.write_bytes(content)
    partial.replace(folder / f"{split}.xyz")
    return "fetched"


def _content(path: Path) -> bytes:
    """What a file holds, unpacked."""
    try:
        return COMPRESSION.get(path.suffix, bytes)(path.read_bytes())
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}. Move it away.") from error


def _check(content: bytes, expected: PublicFile, where: str, advice: str) -> None:
    """Stop unless the content has the checksum and the number of frames expected."""
    sha256 = hashlib.sha256(content).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if expected.sha256 not in (None, sha256):
        raise UserError(f"{where} is not the file expected: sha256 {sha256}, expected {expected.sha256}. {advice}")
    if expected.git_blob is not None and not blob.startswith(expected.git_blob):
        raise UserError(f"{where} is not the file expected: git blob {blob}, expected {expected.git_blob}... {advice}")
    n_frames = count_frames(content)
    if expected.n_frames not in (None, n_frames):
        raise UserError(f"{where} is not the file expected: {n_frames} frames, expected {expected.n_frames}. {advice}")


def count_frames(content: bytes) -> int:
    """Number of structures in the content of an xyz file, 0 when it is not one."""
    lines = content.splitlines()
    n_frames = at = 0
    while at < len(lines) and lines[at].strip().isdigit():
        at += int(lines[at]) + 2
        n_frames += 1
    return n_frames if at == len(lines) else 0
