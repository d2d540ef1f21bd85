"""What shows that a result is one: label, watermark, signed manifest."""
