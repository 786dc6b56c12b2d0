"""Anomaly detection: scores that change nothing, gated learning, sparse alerts.

Detectors keep one protocol (`Detector`): `Composite` is the usual one, `ModelRegistry` holds models of many keys with
champion and challenger, `LifecycleModels` those of an instrument group. `AlertPolicy` makes alerts of scores and rules,
and `AccountBehaviourState` watches accounts. Any River estimator fits behind the same protocol: see
``operators/river``, which nothing here imports.
"""

from seawall.operators.core.detection._account_behaviour import AccountBehaviourState
from seawall.operators.core.detection._alerts import (
    PRICE_BAND,
    AlertPolicy,
    AlertRule,
    AlertSource,
    AlertState,
    DetectionResult,
    SingleDetector,
    explain_score,
)
from seawall.operators.core.detection._breakers import LookBackBand, PremiumBand, ReferenceBand
from seawall.operators.core.detection._composite import (
    ALERT_SCORE,
    CANDIDATE_SCORE,
    REFRACTORY_ROWS,
    UNUSUAL_SCORE,
    Composite,
    DeviationDetector,
    ResidualBreaker,
)
from seawall.operators.core.detection._composite_array import ARRAY_BATCH_MIN, CompositeArray
from seawall.operators.core.detection._lifecycle_models import LifecycleModels
from seawall.operators.core.detection._model_lifecycle import (
    TRIAL_TERMS,
    ChallengerRole,
    LifecycleChange,
    ModelLifecycle,
    PageHinkley,
    Trial,
    TrialTerms,
    new_page_hinkley,
)
from seawall.operators.core.detection._model_spec import (
    FamilyModels,
    IndependentKind,
    Judgement,
    ModelChange,
    ModelEvent,
    ModelFamily,
    ModelKey,
    ModelKind,
    ModelReport,
    ModelScope,
    ModelsFactory,
)
from seawall.operators.core.detection._registry import (
    DoorkeeperFilter,
    ModelRegistry,
    RegisteredModels,
    RegistryParameters,
    make_models,
    warm_start,
)
from seawall.operators.core.detection._samples import Detector, GatedDetector, Sample, Score, ScoreState, observe
from seawall.operators.core.detection._shared_forest import ForestMember, HalfSpaceForest, SharedForestKind, compiled
from seawall.operators.core.detection._statistics import UNUSUAL_RANK, WARM_ROWS

__all__ = [
    "ALERT_SCORE",
    "ARRAY_BATCH_MIN",
    "CANDIDATE_SCORE",
    "PRICE_BAND",
    "REFRACTORY_ROWS",
    "TRIAL_TERMS",
    "UNUSUAL_RANK",
    "UNUSUAL_SCORE",
    "WARM_ROWS",
    "AccountBehaviourState",
    "AlertPolicy",
    "AlertRule",
    "AlertSource",
    "AlertState",
    "ChallengerRole",
    "Composite",
    "CompositeArray",
    "DetectionResult",
    "Detector",
    "DeviationDetector",
    "DoorkeeperFilter",
    "FamilyModels",
    "ForestMember",
    "GatedDetector",
    "HalfSpaceForest",
    "IndependentKind",
    "Judgement",
    "LifecycleChange",
    "LifecycleModels",
    "LookBackBand",
    "ModelChange",
    "ModelEvent",
    "ModelFamily",
    "ModelKey",
    "ModelKind",
    "ModelLifecycle",
    "ModelRegistry",
    "ModelReport",
    "ModelScope",
    "ModelsFactory",
    "PageHinkley",
    "PremiumBand",
    "ReferenceBand",
    "RegisteredModels",
    "RegistryParameters",
    "ResidualBreaker",
    "Sample",
    "Score",
    "ScoreState",
    "SharedForestKind",
    "SingleDetector",
    "Trial",
    "TrialTerms",
    "compiled",
    "explain_score",
    "make_models",
    "new_page_hinkley",
    "observe",
    "warm_start",
]
