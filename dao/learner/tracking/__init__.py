"""A run in trackers such as TensorBoard, told of every step and validation. Start at `tracked`."""
