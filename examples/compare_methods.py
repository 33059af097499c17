"""Which method is best on the shop corpus? The same rows for each, with intervals, cost and paired tests.

Usage: python examples/compare_methods.py [OUT_DIR]

Given again, a comparison reads what is finished in OUT_DIR and goes on with the rest.
"""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

import sortal
from sortal.comparison.tables import cost_table, notes, pairs_table, quality_table

SHOP = Path(__file__).parent / "shop"


def main(out: str = "runs/shop-methods", console: Console | None = None, **settings: Any) -> None:
    """Compare the floor, a linear model and a small encoder that is tuned whole, on 400 training rows to keep it short.

    Args:
        settings: of the runs, as for `sortal.compare`; ``{"encoder.epochs": 8}`` is for one method.
    """
    console = console or Console(width=120)
    given = {"dev": str(SHOP / "dev.csv"), "test": str(SHOP / "test.csv"), "text": "text", "label": "intent"}
    given |= {"max_train_rows": 400, "encoder.epochs": 2}
    found = sortal.compare(
        str(SHOP / "train.csv"),
        methods=["majority", "tfidf", "encoder"],
        out=out,
        **{**given, **settings},
    )
    console.print(quality_table(found), cost_table(found), pairs_table(found))
    for line in (*notes(found), *found.advice):
        console.print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
