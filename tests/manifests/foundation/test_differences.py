from manifests.foundation.differences import differing_keys


def test_differences_are_named_by_dotted_keys_in_order() -> None:
    one = {"b": {"x": 1, "y": [1, 2]}, "a": None, "same": {"z": 1}}
    other = {"b": {"x": 1, "y": [1, 3], "new": 0}, "a": 1, "same": {"z": 1}}
    assert differing_keys(one, other) == ["a", "b.new", "b.y"]
    assert differing_keys(one, one) == []
