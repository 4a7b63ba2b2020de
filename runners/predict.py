"""Label new files with a saved model: one CSV row for each, with the score of every class."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.models import SavedModel, open_model
from runners.paths import check_file, complete_or_not

if TYPE_CHECKING:
    from lsm.encode import Inputs
    from runners.context import Context


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Predict:
    """`input` is a file, a folder or a zip of images or recordings (or a list of them); `output` a CSV file."""

    input: Annotated[str | list[str] | None, Field(description="files, folders or zips to label")] = None
    output: Annotated[str, Field(description="CSV file to write", min_length=1)] = "predictions.csv"

    needs: ClassVar[tuple[str, ...]] = ()
    tracked: ClassVar[bool] = False

    def prepare(self, context: Context) -> tuple[SavedModel, tuple[str, ...], Inputs]:
        """Open the model and read every file."""
        from lsm.datasets.files import encode_files, file_names

        if not self.input:
            raise UserError("runner.input=null: name a file, a folder or a zip to label")
        paths = [self.input] if isinstance(self.input, str) else list(self.input)
        check_file(self.output, "runner.output")
        model = open_model(context)
        with context.phase("files") as advance:
            inputs = encode_files(paths, model.encoding, progress=advance)
        if inputs.n_in != model.network.n_in:
            raise UserError(f"runner.input={self.input}: {inputs.n_in} channels, not {model.network.n_in}")
        return model, file_names(paths, model.encoding), inputs

    def run(self, context: Context) -> dict[str, float]:
        """Present every file to the liquid and write the CSV, complete or not at all."""
        model, names, inputs = context.prepared
        network = model.network
        with context.phase("RUN", total=len(inputs), unit="samples") as advance:
            counts = network.present(inputs, "predict", context.threads, advance)
        scores = model.fitted.scores(counts)
        target = Path(self.output).expanduser()
        with complete_or_not(target) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "label", *(f"score_{name}" for name in model.class_names)])
            for name, row in zip(names, scores, strict=True):
                rows.writerow([name, model.class_names[int(np.argmax(row))], *(f"{value:.6g}" for value in row)])
        context.progress.say(f"{len(names)} labels written to {target}")
        silent: Any = (counts.sum(axis=1) == 0).sum()
        if silent:
            context.progress.warn(f"{silent} files evoke no spike in the liquid; their label is a guess")
        return {}
