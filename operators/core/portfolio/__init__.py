"""Portfolio: the ledger of one shard, how slices change it, its measures, and the sums across shards."""

from seawall.operators.core.portfolio._decision_inputs import claims_of, computations_required, own_funds_of
from seawall.operators.core.portfolio._exposure import ExposureState
from seawall.operators.core.portfolio._firm import FIRM_KEY, FirmState
from seawall.operators.core.portfolio._ledger import Ledger

__all__ = ["FIRM_KEY", "ExposureState", "FirmState", "Ledger", "claims_of", "computations_required", "own_funds_of"]
