"""A form that changes something is sent once."""

from .conftest import Open, SignedIn


def test_double_click_sends_a_form_once(open_page: Open, signed_in: SignedIn) -> None:
    page = open_page("/app/account", **signed_in("holder"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    page.evaluate(
        """() => {
          const form = document.querySelector("form[action='/app/account/preferences']");
          form.requestSubmit();
          form.requestSubmit();
        }"""
    )
    page.wait_for_url("**/app/account?note=preferences_saved")
    assert [line.startswith("POST") for line in asked].count(True) == 1
