"""The estimators as scikit-learn checks them, and as its users meet them."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need the extra `sklearn`")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from npconv import nn
from npconv.integrations.sklearn_estimator import ConvClassifier, ConvRegressor


@parametrize_with_checks([ConvClassifier(random_state=0), ConvRegressor(random_state=0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


X, Y = load_digits(return_X_y=True)
X_TRAIN, X_TEST, Y_TRAIN, Y_TEST = train_test_split(X, Y, random_state=0)


@pytest.fixture(scope="module")
def digits():
    return ConvClassifier((1, 8, 8), epochs=8, random_state=0).fit(X_TRAIN, Y_TRAIN)


def test_digits(digits):
    assert digits.score(X_TEST, Y_TEST) > 0.97
    assert digits.n_iter_ == len(digits.history_) == 8
    assert digits.n_features_in_ == 64
    chances = digits.predict_proba(X_TEST)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-12)
    assert (digits.classes_[chances.argmax(1)] == digits.predict(X_TEST)).all()
    assert (digits.decision_function(X_TEST).argmax(1) == chances.argmax(1)).all()


def test_it_travels(digits):
    again = pickle.loads(pickle.dumps(digits))
    assert (again.predict_proba(X_TEST) == digits.predict_proba(X_TEST)).all()
    assert not hasattr(clone(digits), "classes_")


def test_one_state_one_result():
    a, b = (ConvClassifier((1, 8, 8), epochs=1, random_state=5).fit(X_TRAIN, Y_TRAIN) for _ in range(2))
    c = ConvClassifier((1, 8, 8), epochs=1, random_state=6).fit(X_TRAIN, Y_TRAIN)
    assert (a.predict_proba(X_TEST) == b.predict_proba(X_TEST)).all()
    assert (a.predict_proba(X_TEST) != c.predict_proba(X_TEST)).any()


def test_labels_may_be_words_and_two():
    names = np.array(["even", "odd"])[Y_TRAIN % 2]
    model = ConvClassifier((1, 8, 8), epochs=3, random_state=0).fit(X_TRAIN, names)
    assert set(model.predict(X_TEST)) == {"even", "odd"}
    lead = model.decision_function(X_TEST)
    assert lead.shape == (len(X_TEST),)
    assert ((lead > 0) == (model.predict(X_TEST) == "odd")).all()


def test_pipeline_and_search():
    model = make_pipeline(MinMaxScaler(), ConvClassifier((1, 8, 8), epochs=2, random_state=0))
    search = GridSearchCV(model, {"convclassifier__channels": [(2,), (8, 16)]}, cv=2)
    search.fit(X_TRAIN[:400], Y_TRAIN[:400])
    assert search.best_params_ == {"convclassifier__channels": (8, 16)}


def test_early_stopping_holds_samples_out():
    model = ConvClassifier((1, 8, 8), epochs=60, rate=0.02, early_stopping=2, random_state=0).fit(X_TRAIN, Y_TRAIN)
    assert model.n_iter_ < 60
    assert model.history_.best == model.n_iter_ - 3
    assert model.score(X_TEST, Y_TEST) > 0.95


def test_ones_own_network():
    asked = []

    def network(shape, outputs, rng):
        asked.append((shape, outputs))
        return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs, rng=rng))

    model = ConvClassifier((1, 8, 8), network=network, epochs=5, random_state=0).fit(X_TRAIN, Y_TRAIN)
    assert asked == [((1, 8, 8), 10)]
    assert isinstance(model.model_[0], nn.Flatten)
    assert model.score(X_TEST, Y_TEST) > 0.8


@pytest.mark.parametrize("shape", [(1, 64), (4, 4, 4), (1, 4, 4, 4), (64, 1)])
def test_any_rank(shape):
    model = ConvClassifier(shape, epochs=3, channels=(8, 8), random_state=0).fit(X_TRAIN[:500], Y_TRAIN[:500])
    assert model.score(X_TEST, Y_TEST) > 0.25


def test_several_outputs():
    y = np.stack([X_TRAIN[:, :32].sum(1), 1000 * X_TRAIN[:, 32:].sum(1)], 1)
    model = ConvRegressor((1, 8, 8), epochs=10, random_state=0).fit(X_TRAIN, y)
    assert model.predict(X_TEST).shape == (len(X_TEST), 2)
    assert model.score(X_TRAIN, y) > 0.9


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConvClassifier((1, 8, 9)).fit(X, Y), r"image_shape is \(1, 8, 9\), needs .* a product of 64"),
        (lambda: ConvClassifier((64,)).fit(X, Y), r"image_shape is \(64,\)"),
        (lambda: ConvClassifier((1, 8, 8)).fit(X, np.zeros(len(X))), "y has one class, .*0.0"),
        (lambda: ConvClassifier((1, 8, 8), epochs=0).fit(X, Y), "epochs is 0"),
        (
            lambda: ConvClassifier((1, 8, 8), early_stopping=1, validation_fraction=1.5).fit(X, Y),
            "validation_fraction is 1.5",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_without_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "try:\n    import npconv.integrations.sklearn_estimator\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = 'npconv.integrations.sklearn_estimator needs scikit-learn: pip install "npconv[sklearn]"\n'
    assert done.stdout == expected
