"""The model itself, apart from how it is trained: prior, trees, calibration; saved and loaded by digest."""
