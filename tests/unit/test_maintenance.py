"""What maintenance.on takes: a message, a page, addresses, seconds."""

from pathlib import Path
from typing import Any

import pytest

from fabfile.commands import maintenance
from fabfile.errors import ConfigError
from fabfile.plan import rendering
from testbed.sample import sample
from tests.unit.test_decisions import a_run


def test_a_message_is_text_and_no_markup() -> None:
    """Whatever stands in it; without one the page has words of its own."""
    page = rendering.maintenance_page('Back <script>at</script> "noon" & later')
    assert "<p>Back &lt;script&gt;at&lt;/script&gt; &quot;noon&quot; &amp; later</p>" in page
    assert "try again in a few minutes" in rendering.maintenance_page("")


def test_addresses_are_read_as_nginx_writes_them() -> None:
    """It compares them as text."""
    assert maintenance.read_addresses(" 192.0.2.1,2001:DB8:0::1 ,") == ["192.0.2.1", "2001:db8::1"]
    assert maintenance.read_addresses("") == []


@pytest.mark.parametrize("text", ["10.0.0.0/8", "office", "192.0.2.1;", "../x"])
def test_what_is_no_address_is_told(text: str) -> None:
    """Before anything is closed."""
    with pytest.raises(ConfigError, match="--allow takes IP addresses, with commas between them, not "):
        maintenance.read_addresses(text)


def test_a_page_of_ones_own(tmp_path: Path) -> None:
    """As it is; one that cannot be read is told with its name."""
    (tmp_path / "page.html").write_text("<h1>Ours</h1>")
    assert maintenance.read_page(str(tmp_path / "page.html")) == "<h1>Ours</h1>"
    (tmp_path / "page.html").write_bytes(b"\xff")
    for path, reason in ((tmp_path / "page.html", "it is no text in UTF-8"), (tmp_path / "none", "No such file")):
        with pytest.raises(ConfigError, match=f"--page {path} cannot be read: {reason}"):
            maintenance.read_page(str(path))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hold": 61}, "--hold takes 1 to 60 seconds, not 61"),
        ({"hold": -1}, "--hold takes 1 to 60 seconds, not -1"),
        ({"hold": 30, "message": "x"}, "--hold takes no message, page or addresses"),
        ({"hold": 30, "allow": "192.0.2.1"}, "--hold takes no message, page or addresses"),
    ],
)
def test_what_cannot_be_held_is_told_before_any_connection(given: dict[str, Any], words: str) -> None:
    """A visitor waits as long, and sees nothing."""
    nothing: dict[str, Any] = {"message": "", "page": "", "allow": "", "hold": 0}
    with pytest.raises(ConfigError, match=words):
        maintenance.on(a_run(sample()), **nothing | given)
