from tests.small_face import checkpoint  # noqa: F401
