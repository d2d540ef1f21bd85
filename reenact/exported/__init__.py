"""A trained model as one ONNX file: written of a checkpoint, and drawn with in its place."""
