"""From a source of frames to records of targets: sources, the detector, drawing, sinks, and the pipeline over them."""
