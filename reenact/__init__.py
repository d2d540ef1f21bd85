"""Inference: a picture and a driving picture or clip in, a picture or video out; sheets and the demo."""
