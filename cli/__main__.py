"""`python -m cli ...`, for an environment without the `fedreenact` command."""

from cli import main

main()
