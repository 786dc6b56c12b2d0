"""Copies of a run: backup, mirror to another region, and migration to another bus."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.replicate._backup import back_up, restore
    from seawall.ops.replicate._migration import check_migration_mark, migrate
    from seawall.ops.replicate._mirror import mirror

_HOMES = {
    "back_up": "seawall.ops.replicate._backup",
    "check_migration_mark": "seawall.ops.replicate._migration",
    "migrate": "seawall.ops.replicate._migration",
    "mirror": "seawall.ops.replicate._mirror",
    "restore": "seawall.ops.replicate._backup",
}
__all__ = [
    "back_up",
    "check_migration_mark",
    "migrate",
    "mirror",
    "restore",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
