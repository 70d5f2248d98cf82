"""Data: readers of real data sets, crops and augmentation, synthetic scenes."""
