"""`fedreenact ...`: reads the command line, calls the package that does the work, prints what came of it."""

from model.huge_pages import begin_with_huge_pages


def main() -> None:
    """The installed command."""
    begin_with_huge_pages()
    from cli.entry import main as run  # imports take longer than to begin anew

    run()
