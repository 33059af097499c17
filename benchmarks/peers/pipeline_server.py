"""A transformers pipeline behind FastAPI, as most tutorials write it.

python -m benchmarks.peers.pipeline_server FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Request(BaseModel):
    inputs: str | list[str]


def make_app(folder: str) -> FastAPI:
    app = FastAPI()
    classify = pipeline("text-classification", model=folder, top_k=None)

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/predict")
    def predict(request: Request) -> Any:
        return classify(request.inputs, truncation=True)

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
