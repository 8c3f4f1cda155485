"""How much a request may ask for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Limits"]

MEBI = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a server takes; what is above a limit is refused with one line.

    Attributes:
        body: Bytes of a JSON request.
        file: Bytes of an uploaded file, with what its form adds.
        texts: Texts of a JSON request.
        characters: Characters of one text, also of one in a file.
        rows: Rows of a file.
        cells: Cells of a file: rows times columns.
        table: Characters of a file's cells, which a small Excel file can make many of, and of the
            names of its columns, once for every row.
        unpacked: Bytes of an Excel file, which is an archive, once it is unpacked.
        waiting: Requests that wait for the model, or are answered by it, at one time.
        explanations: Those of the requests that wait or are answered which ask why.
        steps: Of the integral of an explanation.
        held: Bytes of all requests together that wait or are answered, as they were sent, and of
            the answers that clients have not taken yet.
        tables: Files that are read and predicted at one time; the others lie on disk until then.
        connections: Of clients, at one time.
        seconds: How long a client may be silent in the middle of a request.
        arrival: Seconds within which the whole body of a request has to arrive.
        part: Rows of a file that are predicted before other requests have their turn.
    """

    body: int = 4 * MEBI
    file: int = 32 * MEBI
    texts: int = 1000
    characters: int = 100_000
    rows: int = 50_000
    cells: int = 2_000_000
    table: int = 128 * MEBI
    unpacked: int = 256 * MEBI
    waiting: int = 100
    explanations: int = 4
    steps: int = 64
    held: int = 256 * MEBI
    tables: int = 2
    connections: int = 500
    seconds: float = 30.0
    arrival: float = 120.0
    part: int = 256

    def told(self) -> dict[str, int]:
        """The limits that a client can keep to, by name."""
        names = ("body", "file", "texts", "characters", "rows", "cells")
        return {name: value for name, value in asdict(self).items() if name in names}
