import pytest

from sizeloss_monai.constraints.statistics import check_classes


@pytest.mark.parametrize(("classes", "num_classes"), [([1], None), ((2, 0), None), (range(1, 3), 3)])
def test_ids_stay_as_they_are(classes, num_classes):
    assert check_classes(classes, num_classes) == list(classes)


@pytest.mark.parametrize("classes", [[], [-1], [1, 1]])
@pytest.mark.parametrize(("num_classes", "allowed"), [(None, ">= 0"), (3, "in 0..2")])
def test_ids_no_constraint_can_hold_for(classes, num_classes, allowed):
    with pytest.raises(ValueError, match="classes must be at least one distinct class id") as caught:
        check_classes(classes, num_classes)
    assert f"{allowed}, got {classes}" in str(caught.value)


def test_an_id_the_network_does_not_have():
    assert check_classes([3]) == [3]
    with pytest.raises(ValueError, match=r"in 0\.\.2, got \[3\]"):
        check_classes([3], 3)
