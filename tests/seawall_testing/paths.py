"""Folders that tests read: the one place that knows where the repository, its fixtures and the reference data lie."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
OPS = ROOT / "ops"
DOCS = OPS / "docs"
CONFORMANCE = TESTS / "conformance"
FIXTURES = TESTS / "fixtures"
FOREIGN = TESTS / "foreign"
FUZZ_CORPUS = TESTS / "fuzz_corpus"
SHARED = ROOT.parent / "shared"  # reference data, which not every machine has
