"""Configuration: a run's TOML files, checked, and what the journal records of them (contract.md, "Configuration")."""

from seawall.schemas.configuration._configuration import (
    RUN_FILE,
    UNCHANGEABLE,
    Configuration,
    ConfigurationFile,
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
    Feed,
    PlaybookFile,
    conditions_of,
    read_playbook,
    read_response,
)
from seawall.schemas.configuration._sections import (
    STANDARD_SCENARIOS,
    KafkaTerms,
    MarketTerms,
)

__all__ = [
    "FEEDS",
    "HANDLING",
    "RUN_FILE",
    "STANDARD_SCENARIOS",
    "UNCHANGEABLE",
    "VENUE_STATES",
    "Configuration",
    "ConfigurationFile",
    "Feed",
    "KafkaTerms",
    "MarketTerms",
    "PlaybookFile",
    "check_unchanged",
    "conditions_of",
    "journaled_configuration",
    "load_configuration",
    "load_limits",
    "load_playbook",
    "load_response",
    "playbook_section",
    "read_playbook",
    "read_response",
    "read_toml",
    "where",
]
