from tests.support.small_face import checkpoint  # noqa: F401
