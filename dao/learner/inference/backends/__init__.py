"""Forms of a trained model for prediction: merged weights, 8 bits, ONNX."""
