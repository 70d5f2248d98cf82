"""The parts that irdet can use: what the lack of each costs, and the command that adds it."""

from __future__ import annotations

from dataclasses import dataclass

_OPENCV = "pip install 'opencv-python-headless>=4.8,<6'"

#: JetPack's packages are the system's: an environment sees them only where it is told to.
_JETPACK = "sudo apt install nvidia-jetpack && python3 -m venv --system-site-packages .venv"

#: NVIDIA builds onnxruntime-gpu for Jetsons itself; TensorRT engines do without it.
_ENGINE = "irdet export MODEL.onnx  # a TensorRT engine takes its place on a Jetson"

#: Beside JetPack's packages, which are built against NumPy 1 on JetPack 6.
_BESIDE_JETPACK = "pip install 'opencv-python-headless>=4.8,<5' 'numpy<2'"


@dataclass(frozen=True)
class Part:
    """Something that irdet can use.

    Attributes:
        name: What it is called.
        lack: What does not work without it.
        command: What adds or mends it; "" where no command does.
        jetson: The same on a Jetson, where it differs.
        gpu: It is of use only where an NVIDIA GPU is.
    """

    name: str
    lack: str
    command: str = ""
    jetson: str = ""
    gpu: bool = False

    def remedy(self, *, jetson: bool, gpu: bool) -> str:
        """Returns the command for a machine; "" where nothing helps, as for what needs a GPU that is not there."""
        if self.gpu and not gpu:
            return ""
        return self.jetson or self.command if jetson else self.command


#: In the order in which they are told.
PARTS = {
    part.name: part
    for part in (
        Part("Python", "irdet needs 3.10 or newer"),
        Part("NumPy", "nothing runs", "pip install 'numpy>=1.26'", "pip install 'irdet[jetson]'"),
        Part("OpenCV", "no frame is read and no target found", _OPENCV, f"{_JETPACK}  # brings OpenCV"),
        Part("OpenCV packages", "they overwrite each other's files, so what runs is part of one and part of another"),
        Part(
            "OpenCV: windows",
            "irdet infer --show",
            "pip uninstall -y opencv-python-headless && pip install 'opencv-python>=4.8,<6'",
            "pip uninstall -y opencv-python-headless  # JetPack's has windows",
        ),
        Part(
            "OpenCV: FFmpeg",
            "videos and RTSP streams are not read, annotated videos not written",
            _OPENCV,
            _BESIDE_JETPACK,
        ),
        Part(
            "OpenCV: GStreamer",
            "pipelines (... ! appsink), which a Jetson's CSI cameras need",
            "build OpenCV 4.8 or newer with GStreamer  # PyPI's has none, and distributions' may be older",
            "pip uninstall -y opencv-python-headless  # JetPack's has GStreamer",
        ),
        Part("OpenCV: V4L2", "USB cameras and capture cards", _OPENCV, _BESIDE_JETPACK),
        Part(
            "shipped models",
            "irdet infer, eval and verify without --model",
            "pip install --force-reinstall --no-deps irdet",
        ),
        Part("ONNX Runtime", "models (.onnx) run on OpenVINO or TensorRT only", "pip install 'irdet[cpu]'", _ENGINE),
        Part("ONNX Runtime packages", "they overwrite each other's files, and the GPU is lost without a word"),
        Part(
            "ONNX Runtime: CUDA",
            "--device cuda for .onnx",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'irdet[gpu]'",
            _ENGINE,
            gpu=True,
        ),
        Part(
            "ONNX Runtime: TensorRT",
            "--device tensorrt for .onnx",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'irdet[gpu,tensorrt]'",
            _ENGINE,
            gpu=True,
        ),
        Part("OpenVINO", "--device openvino; auto chooses from one less", "pip install 'irdet[openvino]'", _ENGINE),
        Part("NVIDIA GPU", "CUDA and TensorRT; models run on the CPU"),
        Part(
            "NVIDIA driver",
            "CUDA and TensorRT",
            "sudo ubuntu-drivers install && sudo reboot",
            "sudo apt install nvidia-jetpack && sudo reboot",
            gpu=True,
        ),
        Part(
            "cuda-python", "TensorRT engines", "pip install 'irdet[tensorrt]'", "pip install 'irdet[jetson]'", gpu=True
        ),
        Part("TensorRT", "building and running .trt files", "pip install 'irdet[tensorrt]'", _JETPACK, gpu=True),
        Part(
            "TensorRT-RTX",
            "engines for RTX desktop GPUs, which it also builds where none is",
            "pip install 'irdet[tensorrt-rtx]'",
            "irdet export MODEL.onnx  # JetPack's TensorRT is the one for a Jetson",
        ),
        Part("Jetson", ""),
        Part("Jetson: clocks", "irdet bench measures this mode, not what the board can do"),
        Part("torch", "irdet train, export of checkpoints, .pt files", "pip install torch 'irdet[train,export]'"),
        Part("onnx", "irdet export of checkpoints, check, tune of .onnx", "pip install torch 'irdet[export]'"),
        Part("onnxsim", "irdet export of checkpoints, but for --no-simplify", "pip install torch 'irdet[export]'"),
        Part("onnxconverter-common", "irdet export --fp16", "pip install torch 'irdet[export]'"),
        Part("SciPy", "tracking", "pip install 'irdet[track]'"),
        Part("matplotlib", "curves of eval and bench as pictures", "pip install 'irdet[plot]'"),
    )
}
