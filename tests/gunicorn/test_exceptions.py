"""An exception of a view can be read in the journal, once, whatever the app's logging says."""

import pytest

from tests.gunicorn.servers import Server, wait_for

VERSIONS = ["20.1.0", "newest"]
WSGI = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def fail(request, name):
    raise ValueError("the view is broken")

settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, USE_TZ=True, {settings})
urlpatterns = [path("fail/<str:name>", fail), path("healthz", lambda request: HttpResponse("well")),
               path("", lambda request: HttpResponse("start"))]
application = get_wsgi_application()
"""
STREAM = """LOGGING={"version": 1, "disable_existing_loggers": False, "root": {"handlers": ["err"]},
                     "handlers": {"err": {"class": "logging.StreamHandler"}}}"""
SILENT = """LOGGING={"version": 1, "handlers": {"null": {"class": "logging.NullHandler"}},
                     "loggers": {"django": {"handlers": ["null"], "propagate": False}}}"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("settings", ["", STREAM, SILENT], ids=["none", "stream", "silent"])
def test_an_exception_is_told_once(make_server, version: str, settings: str):
    """With Django's default logging, which only mails, with one that tells, and with one that silences all the rest."""
    server: Server = make_server(version)
    folder = server.release("one")
    (folder / "web/config/wsgi.py").write_text(WSGI.format(settings=settings))
    server.link("one")
    server.start("--workers", "1")
    assert server.get("/fail/x%0AERROR?secret=1").status == 500
    wait_for(lambda: "ValueError: the view is broken" in server.said())
    assert server.get("/healthz").status == 200
    assert server.said().count("ValueError: the view is broken") == 1
    assert "secret=1" not in server.said()
    assert "/fail/x" in server.said()
    assert "\nERROR" not in server.said()
