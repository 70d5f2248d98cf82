"""ModelInfo: the one record that travels with a model from training to the device."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from irdet.core.errors import ModelError
from irdet.core.jsonable import jsonable

#: Key of the record in ONNX `metadata_props` and in checkpoints.
METADATA_KEY = "irdet"

#: A record longer than this is not ours (bytes of JSON).
MAX_JSON_BYTES = 1 << 20

#: No network pads more, and none takes a larger side, px: such a record would have memory run out.
MAX_STRIDE, MAX_SIDE = 1024, 1 << 15

_PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
_TARGETS = (None, "tensorrt", "cpu")


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, how it wants its input, and how it was made.

    Attributes:
        variant: Name of the network, for instance `"mlcl-edge"`, or `"foreign"` for a model that is not ours.
        parameters: Number of trained parameters; 0 where unknown.
        stride: Height and width must be multiples of this.
        height: Height of the input in pixels, None where it is free.
        width: Width of the input in pixels, None where it is free.
        threshold: A pixel belongs to a target when its probability is at least this.
        precision: `"fp32"`, `"fp16"`, `"int8"` or `"int8+fp16"`.
        target: What an INT8 graph was quantised for: `"tensorrt"`, `"cpu"`, or None.
        opset: ONNX opset, None for checkpoints.
        irdet_version: Version of irdet that wrote the model.
        training: Data, recipe, epochs, seed and so on; JSON values.
        metrics: Measured figures with their protocol; JSON values.
        weights_sha256: SHA-256 over the weights (names, shapes and float32 bytes), "" where unknown.
        calibration: Digest of the INT8 calibration, None where there is none.
    """

    variant: str
    parameters: int = 0
    stride: int = 1
    height: int | None = None
    width: int | None = None
    threshold: float = 0.5
    precision: str = "fp32"
    target: str | None = None
    opset: int | None = None
    irdet_version: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    calibration: str | None = None

    def __post_init__(self) -> None:
        def need(condition: bool, what: str) -> None:
            if not condition:
                raise ModelError(f"model metadata: {what}")

        def whole(value: object, low: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and value >= low

        need(isinstance(self.variant, str) and bool(self.variant), "variant must be a name")
        need(whole(self.parameters, 0), "parameters must be a count")
        need(
            whole(self.stride, 1) and self.stride <= MAX_STRIDE, f"stride must be a whole number from 1 to {MAX_STRIDE}"
        )
        for name in ("height", "width", "opset"):
            value = getattr(self, name)
            fits = value is None or (whole(value, 1) and value <= MAX_SIDE)
            need(fits, f"{name} must be a positive whole number, at most {MAX_SIDE}, or null")
        need(
            isinstance(self.threshold, (int, float))
            and not isinstance(self.threshold, bool)
            and math.isfinite(self.threshold)
            and 0 < self.threshold < 1,
            "threshold must lie between 0 and 1",
        )
        need(self.precision in _PRECISIONS, f"precision must be one of {', '.join(_PRECISIONS)}")
        need(self.target in _TARGETS, "target must be tensorrt, cpu or null")
        need(isinstance(self.irdet_version, str), "irdet_version must be a text")
        need(isinstance(self.weights_sha256, str), "weights_sha256 must be a text")
        need(self.calibration is None or isinstance(self.calibration, str), "calibration must be a text or null")
        need(isinstance(self.training, dict) and isinstance(self.metrics, dict), "training and metrics must be objects")

    def replace(self, **changes: Any) -> ModelInfo:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self, indent: int | None = None) -> str:
        """Returns the record as a JSON object; figures that are not finite become null."""
        return json.dumps(jsonable(dataclasses.asdict(self)), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelInfo:
        """Reads the record strictly: unknown keys, wrong types and missing keys are errors.

        Raises:
            ModelError: The text is not such a record; says which field is wrong.
        """
        if len(text) > MAX_JSON_BYTES:
            raise ModelError("model metadata: longer than 1 MiB, so not a record of irdet's")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError("model metadata: not valid JSON") from error
        if not isinstance(values, dict):
            raise ModelError("model metadata: not a JSON object")
        names = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - names):
            raise ModelError(f"model metadata: unknown field {unknown[0]!r}; written by a newer irdet?")
        if missing := sorted(names - values.keys()):
            raise ModelError(f"model metadata: {missing[0]} is missing")
        return cls(**values)
