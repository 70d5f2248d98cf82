"""TensorRT 8.6 to 11, and TensorRT for RTX: building engines from ONNX files, and running them.

`build.py` turns an ONNX file into a plan, `sidecar.py` says what the plan was built for, `engine.py` runs it,
`cuda.py` holds the memory and the stream, `library.py` finds the installed package. None of it needs torch, onnx or
ONNX Runtime.
"""
