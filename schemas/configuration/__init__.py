"""Configuration: a run's TOML files, checked, and what the journal records of them (contract.md, "Configuration")."""

from seawall.schemas.configuration._configuration import (
    RUN_FILE,
    UNCHANGEABLE,
    Configuration,
    check_unchanged,
    journaled_configuration,
    load_configuration,
    load_limits,
    load_playbook,
    load_response,
    playbook_section,
    read_toml,
    where,
)
from seawall.schemas.configuration._playbook import (
    FEEDS,
    HANDLING,
    VENUE_STATES,
    conditions_of,
    read_playbook,
    read_response,
)
from seawall.schemas.configuration._sections import (
    STANDARD_SCENARIOS,
    KafkaTerms,
    MarketTerms,
    load_kafka,
    scenarios_of,
)

__all__ = [
    "FEEDS",
    "HANDLING",
    "RUN_FILE",
    "STANDARD_SCENARIOS",
    "UNCHANGEABLE",
    "VENUE_STATES",
    "Configuration",
    "KafkaTerms",
    "MarketTerms",
    "check_unchanged",
    "conditions_of",
    "journaled_configuration",
    "load_configuration",
    "load_kafka",
    "load_limits",
    "load_playbook",
    "load_response",
    "playbook_section",
    "read_playbook",
    "read_response",
    "read_toml",
    "scenarios_of",
    "where",
]
