"""The examples in the docstrings of the detectors are true."""

import doctest
import importlib
import pkgutil

import pytest

from seawall.operators.core import detection

MODULES = sorted(module.name for module in pkgutil.walk_packages(detection.__path__, f"{detection.__name__}."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 20
