"""Export: a checkpoint becomes a file that runs without torch, checked against torch before it is let out."""
