"""Transparency logs: RFC 6962 Merkle trees, tiles, signed notes, checkpoints and proofs, as C2SP specifies them."""

from seawall.schemas.transparency._merkle import CompactRange, consistency_proof, inclusion_proof, leaf_hash
from seawall.schemas.transparency._notes import (
    COSIGNATURE,
    REQUEST_BYTES_MAX,
    Checkpoint,
    CosignatureRequest,
    Note,
    NoteError,
    NoteKey,
    TlogProof,
    WitnessRefusal,
)
from seawall.schemas.transparency._tiles import (
    ENTRIES,
    ENTRY_BYTES_MAX,
    TILE_WIDTH,
    LogEdge,
    Tile,
    TileFile,
    decode_bundle,
    tile_hashes,
)

__all__ = [
    "COSIGNATURE",
    "ENTRIES",
    "ENTRY_BYTES_MAX",
    "REQUEST_BYTES_MAX",
    "TILE_WIDTH",
    "Checkpoint",
    "CompactRange",
    "CosignatureRequest",
    "LogEdge",
    "Note",
    "NoteError",
    "NoteKey",
    "Tile",
    "TileFile",
    "TlogProof",
    "WitnessRefusal",
    "consistency_proof",
    "decode_bundle",
    "inclusion_proof",
    "leaf_hash",
    "tile_hashes",
]
