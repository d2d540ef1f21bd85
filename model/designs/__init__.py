"""Network designs: what is trained and drawn with. One file each, all named in `registry.py`."""
