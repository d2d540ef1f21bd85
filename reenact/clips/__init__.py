"""A film of a driving clip: steadied landmarks, drawn piece by piece, with its sound and frame times."""
