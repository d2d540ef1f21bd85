"""From frames to annotated, cropped faces."""
