"""Synthetic thermal scenes with their truth: backgrounds, sensor effects, targets, motion. numpy and OpenCV alone."""

from irdet.data.synth.background import KINDS
from irdet.data.synth.config import SceneConfig
from irdet.data.synth.sequence import SynthFrame, generate_frame, generate_sequence
from irdet.data.synth.targets import SHAPES, Placed, Shape, SynthTarget, insert_targets, shape_of_area
from irdet.data.synth.write import Written, check_clip, write_clip, write_dataset

__all__ = [
    "KINDS",
    "SHAPES",
    "Placed",
    "SceneConfig",
    "Shape",
    "SynthFrame",
    "SynthTarget",
    "Written",
    "check_clip",
    "generate_frame",
    "generate_sequence",
    "insert_targets",
    "shape_of_area",
    "write_clip",
    "write_dataset",
]
