"""The data that this laboratory learns from: files, hub data sets, the generated headlines."""
