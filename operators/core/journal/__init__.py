"""Journal: records in merge order become slices, the unit that every risk operator works on."""

from seawall.operators.core.journal._journal_state import JournalState
from seawall.operators.core.journal._rejects import (
    RECORD_BYTES_MAX,
    ConvertedRecord,
    RecordSource,
    RejectRecord,
)
from seawall.operators.core.journal._sequencer import (
    SCHEMA,
    STREAM_SOURCE,
    RecordSequencer,
    SlicingOutput,
    SlicingState,
)
from seawall.operators.core.journal._ticks import MergedRecord, WriteStep

__all__ = [
    "RECORD_BYTES_MAX",
    "SCHEMA",
    "STREAM_SOURCE",
    "ConvertedRecord",
    "JournalState",
    "MergedRecord",
    "RecordSequencer",
    "RecordSource",
    "RejectRecord",
    "SlicingOutput",
    "SlicingState",
    "WriteStep",
]
