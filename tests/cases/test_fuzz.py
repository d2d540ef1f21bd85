"""A few damaged forms of every file that is read; `python -m tests.fuzz` tries many more."""

import pytest

from tests.fuzz import Reader, mutations, readers, run

NUM_MUTATIONS = 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """Every reader with its whole file."""
    return readers(tmp_path_factory.mktemp("fuzz"))


def test_whole_files_are_read(whole: dict[str, Reader]) -> None:
    for reader in whole.values():
        reader.read()


@pytest.mark.integration
def test_damaged_files_give_what_holds_or_one_clear_error(whole: dict[str, Reader]) -> None:
    failures = {name: run(reader, NUM_MUTATIONS).failures for name, reader in whole.items()}
    assert {name: dict(failed) for name, failed in failures.items() if failed} == {}


def test_equal_seeds_damage_alike() -> None:
    one, same, other = (mutations(bytes(1000), seed) for seed in ("a", "a", "b"))
    first = [next(one) for _ in range(5)]
    assert first == [next(same) for _ in range(5)] != [next(other) for _ in range(5)]
