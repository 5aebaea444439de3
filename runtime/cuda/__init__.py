"""Programs on a CUDA device, through pycuda. pycuda is imported when a device is first asked for."""
