"""Network designs: what is trained and drawn with. One file each, all named in `registry.py`.

What two of them are trained for is in `projection_objective.py`.
"""
