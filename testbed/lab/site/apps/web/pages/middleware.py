"""Marks every answer with the release and the process that gave it."""

import os
from collections.abc import Callable

from config import release
from django.http import HttpRequest, HttpResponse

View = Callable[[HttpRequest], HttpResponse]


def mark_release(get_response: View) -> View:
    """Add the headers X-Release and X-Worker (the worker's pid)."""

    def marked(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Release"] = release.ID
        response["X-Worker"] = str(os.getpid())
        return response

    return marked
