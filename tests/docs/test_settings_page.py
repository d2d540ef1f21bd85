from docs.settings_page import PAGE, settings_page
from federation.settings import Settings


def test_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `make docs`"


def test_page_explains_every_setting():
    page = settings_page()
    missing = [key for key in Settings().to_flat() if f"| `{key}` |" not in page]
    assert not missing
