"""Sortal inside scikit-learn, on the shop corpus: a pipeline, a search, probabilities, and several labels per text.

Usage: python examples/scikit_learn.py [SHOP_DIR]
"""

import re
import sys
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import sortal


def without_numbers(texts: pd.Series) -> list[str]:
    """Order numbers, prices and dates as one sign: none of them says what a message is about."""
    return [re.sub(r"\d+", "#", text) for text in texts]


def main(shop: str = "examples/shop") -> None:
    """Search over methods and over how texts are cleaned; then learn topics, of which a message may have several."""
    train, test = (pd.read_csv(Path(shop) / f"{part}.csv") for part in ("train", "test"))
    pipeline = Pipeline([("clean", FunctionTransformer()), ("classify", sortal.SortalClassifier("tfidf"))])
    grid = [{"classify__method": ["majority"]}, {"clean__func": [None, without_numbers]}]
    search = GridSearchCV(pipeline, grid, cv=2, scoring="f1_macro").fit(train["text"], train["intent"])
    print("intent, macro-F1 in cross-validation")
    for found, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        cleaned = "tfidf, numbers as one sign" if found.get("clean__func") else "tfidf"
        print(f"  {found.get('classify__method', cleaned):<28}{score:.3f}")
    print(f"test accuracy of the best: {accuracy_score(test['intent'], search.predict(test['text'])):.3f}")
    probabilities = search.predict_proba(test["text"][:1])[0]  # columns as in classes_
    best = [f"{search.classes_[k]} {probabilities[k]:.2f}" for k in (-probabilities).argsort()[:3]]
    print(f"{test['text'][0]!r}\n  {', '.join(best)}\n")

    indicators = train["topics"].str.get_dummies("|")  # a 0/1 column per topic
    topics = sortal.SortalClassifier("tfidf", threshold_metric="f1_micro").fit(train["text"], indicators)
    gold = test["topics"].str.get_dummies("|").reindex(columns=indicators.columns, fill_value=0)
    print(f"topics, micro-F1 on test: {f1_score(gold, topics.predict(test['text']), average='micro'):.3f}")

    with tempfile.TemporaryDirectory() as place:
        folder = topics.save(Path(place) / "topics")  # for sortal predict, evaluate and serve
        print(f"from the saved folder: {sortal.load(folder).predict([test['text'][0]])[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
