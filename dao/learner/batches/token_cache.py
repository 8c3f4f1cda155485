"""Token ids on disk: an Arrow file per tokenizer, limit and texts, mapped into memory."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from dao.learner.batches.tokens import Tokens, pad_id, tokenize
from dao.learner.storage.files import write_atomically
from dao.learner.storage.provenance import package_version

__all__ = ["TokenCache", "cache_key", "read_tokens", "write_tokens"]

LAYOUT = "2"  # to be raised when the way in which ids are made or laid out changes
FIELD = pa.field("ids", pa.large_list(pa.int32()))
CHECKSUM = b"crc32"
CUT = b"cut"


class TokenCache:
    """Tokenises every set of texts once; the key of a file determines its content.

    Several processes may use one folder: a file appears whole, by rename.

    Args:
        folder: of the files.
        note: told, once each, why something is not cached.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self.folder = folder
        self._note = note
        self._told: set[str] = set()

    def tokenize(
        self,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        limit: int,
        *,
        pairs: bool = False,
    ) -> Tokens:
        """As `tokens.tokenize`, from the disk where it is there."""
        key = cache_key(texts, tokenizer, limit, pairs=pairs)
        if key is None:
            self._tell("token ids are not cached: this tokenizer has no form that can be compared")
            return tokenize(texts, tokenizer, limit, self._note, pairs=pairs)
        path = self.folder / f"{key}.arrow"
        found = read_tokens(path, len(texts))
        if found is not None:
            return found
        if path.exists():
            self._tell(f"token ids: {path} is damaged and is made anew")
        tokens = tokenize(texts, tokenizer, limit, self._note, pairs=pairs)
        try:
            write_tokens(path, tokens)
        except OSError as error:
            reason = error.strerror or error
            self._tell(f"token ids are not cached: {self.folder} cannot be written ({reason})")
        return tokens

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._note(text)


def cache_key(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int, *, pairs: bool = False
) -> str | None:
    """Digest of everything that the ids depend on; None for a tokenizer in Python code."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    try:
        state = json.loads(backend.to_str()) if backend is not None else None
    except Exception:  # parts written in Python have no serialised form; the type is tokenizers'
        state = None
    if state is None:
        return None
    # Every call of the tokenizer sets these two anew, from the arguments below.
    del state["truncation"], state["padding"]
    flags = {k: v for k, v in tokenizer.init_kwargs.items() if isinstance(v, bool | int | float)}
    facts = {
        "layout": LAYOUT,
        "class": type(tokenizer).__name__,
        "backend": state,
        "flags": flags,
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "side": tokenizer.truncation_side,
        "empty": pad_id(tokenizer),
        "limit": limit,
        "packages": {name: package_version(name) for name in ("transformers", "tokenizers")},
    }
    if pairs:
        facts["pairs"] = True
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def read_tokens(path: Path, rows: int) -> Tokens | None:
    """What `write_tokens` wrote, mapped into memory; None where it is missing or damaged."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException):
        return None
    if list(table.schema) != [FIELD] or len(table) != rows or table.column(0).num_chunks != 1:
        return None
    array = table.column(0).chunk(0)
    stated = table.schema.metadata or {}
    cut = stated.get(CUT, b"")
    whole = stated.get(CHECKSUM) == _checksum(array, cut) and cut.isdigit()
    return Tokens(array, int(cut)) if whole else None


def write_tokens(path: Path, tokens: Tokens) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    cut = str(tokens.cut).encode()
    schema = pa.schema([FIELD], {CHECKSUM: _checksum(tokens.array, cut), CUT: cut})
    batch = pa.record_batch([tokens.array], schema=schema)

    def fill(place: Path) -> None:
        with open(place, "xb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(batch)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, fill, unique=True)


def _checksum(array: pa.LargeListArray, cut: bytes) -> bytes:
    lengths = zlib.crc32(array.offsets.to_numpy(), zlib.crc32(cut))
    return str(zlib.crc32(array.values.to_numpy(), lengths)).encode()
