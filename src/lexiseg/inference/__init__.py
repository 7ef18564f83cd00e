"""From a photograph to a label map: preprocess, windows, the fused decoder, Predictor."""
