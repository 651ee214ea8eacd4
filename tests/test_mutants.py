"""The planted bugs fit the project as it is now, and the tests that are named for them exist."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.mutant import PROJECT, Mutant
from tests.mutants.table import MUTANTS, TABLES

pytestmark = pytest.mark.pure

each_mutant = pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())


@cache
def names_in(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}


@each_mutant
def test_a_mutant_fits_the_project(mutant: Mutant):
    assert [edit.misfit() for edit in mutant.edits] == [""] * len(mutant.edits)
    assert mutant.edits


@each_mutant
def test_a_mutant_names_tests_that_exist(mutant: Mutant):
    named = [node.partition("[")[0].partition("::") for node in mutant.tests]

    assert [name for file, _, name in named if name not in names_in(PROJECT / file)] == []
    assert named


def test_no_two_mutants_share_a_name():
    assert len(MUTANTS) == sum(map(len, TABLES))
