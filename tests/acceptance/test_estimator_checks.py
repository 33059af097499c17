"""scikit-learn's own checks of an estimator; method tfidf, for they fit some hundred times."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sortal import SortalClassifier

NOT_FOR_US = {
    "check_class_weight_classifiers": "class_weight is a weight in the loss of methods trained in steps; tfidf refuses it",
}


def expected_failures(estimator):
    return NOT_FOR_US


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([SortalClassifier(method="tfidf")], expected_failed_checks=expected_failures)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
