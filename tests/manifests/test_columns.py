import math
from typing import Any

import pytest

from manifests.columns import DeclaredColumn, parse_columns, require_columns, require_values
from manifests.errors import ContractError
from tests.sets import COLUMNS, refused

ANGLE = DeclaredColumn("angle", "double", "direction", "degrees", scope="variation")


def test_declarations_round_trip_through_the_json_of_the_recipe() -> None:
    assert parse_columns([column.to_json() for column in COLUMNS], taken=()) == COLUMNS


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({}, "expected a list"),
        ([ANGLE.to_json()] * 101, "expected a list of at most 100"),
        ([3], "does not describe a column"),
        ([{"name": "angle"}], "does not describe a column"),
        ([ANGLE.to_json() | {"unit": None}], "does not describe a column"),
        ([ANGLE.to_json()] * 2, "comes twice"),
        ([ANGLE.to_json() | {"name": "key"}], "used by the format itself"),
        ([ANGLE.to_json() | {"name": "Angle of view"}], "a_name_1"),
        ([ANGLE.to_json() | {"type": "float16"}], "type 'float16'"),
        ([ANGLE.to_json() | {"scope": "world"}], "scope 'world'"),
    ],
)
def test_a_declaration_that_cannot_be_a_column_is_refused(document: Any, part: str) -> None:
    with refused(ContractError, part):
        parse_columns(document, taken=("key",))


def test_the_zero_of_a_column_is_a_value_of_it() -> None:
    require_columns(COLUMNS, taken=())
    assert [column.zero() for column in COLUMNS] == [0, "", 0.0, 0]
    assert all(column.holds(column.zero()) for column in COLUMNS)


@pytest.mark.parametrize("value", [1, "1.0", True, None, math.nan, math.inf])
def test_a_value_of_another_type_or_that_is_not_finite_is_refused(value: object) -> None:
    with refused(ContractError, "variation: angle is", "expected a value of type double"):
        require_values({"angle": value}, [ANGLE], what="variation")


def test_a_missing_value_and_a_value_without_a_column_are_refused() -> None:
    with refused(ContractError, "angle is None"):
        require_values({}, [ANGLE], what="variation")
    with refused(ContractError, "zoom is no declared column"):
        require_values({"angle": 1.0, "zoom": 2.0}, [ANGLE], what="variation")
    assert require_values({"angle": 1.0}, [ANGLE], what="variation") == {"angle": 1.0}
