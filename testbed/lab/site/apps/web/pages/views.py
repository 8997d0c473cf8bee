"""What each address of the site answers."""

import time

from config import release
from django.db import Error as DatabaseTrouble
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from greeting import greet

from pages.forms import NoteForm
from pages.models import Note

SHOWN_NOTES = 100
LONGEST_SLEEP = 10.0
CHUNK_BYTES = 64 * 1024


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the release, the greeting and the newest notes."""
    context = {
        "release": release.ID,
        "commit": release.COMMIT,
        "greeting": greet("visitor"),
        "notes": Note.objects.all()[:SHOWN_NOTES],
    }
    return render(request, "pages/index.html", context)


@never_cache
@require_safe
def health(_request: HttpRequest) -> JsonResponse:
    """Answer 200 when the database answers, else 503."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseTrouble:
        return JsonResponse({"status": "unavailable"}, status=503)
    return JsonResponse({"status": "ok", "release": release.ID})


@csrf_exempt
@never_cache
@require_http_methods(["GET", "POST"])
def notes(request: HttpRequest) -> JsonResponse:
    """List the newest notes, or add one from the form fields `text` and `author`."""
    if request.method == "POST":
        return add_note(request)
    return JsonResponse(
        {"count": Note.objects.count(), "notes": [as_json(note) for note in Note.objects.all()[:SHOWN_NOTES]]}
    )


def add_note(request: HttpRequest) -> JsonResponse:
    """Keep a note and answer 201 with it, or 400 with what is wrong per field."""
    form = NoteForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    return JsonResponse(as_json(form.save()), status=201)


def as_json(note: Note) -> dict[str, object]:
    """Return what the site tells about a note."""
    return {"id": note.pk, "text": note.text, "author": note.author, "created": note.created.isoformat()}


@never_cache
@require_safe
def slow(request: HttpRequest) -> JsonResponse:
    """Answer after `?seconds=` (0 to 10, 1 when not given)."""
    try:
        seconds = float(request.GET.get("seconds", "1"))
    except ValueError:
        return JsonResponse({"error": "seconds must be a number"}, status=400)
    # max() first: it also turns "nan", which sleep refuses, into 0.
    seconds = min(max(0.0, seconds), LONGEST_SLEEP)
    time.sleep(seconds)
    return JsonResponse({"slept": seconds})


@csrf_exempt
@require_POST
def upload(request: HttpRequest) -> JsonResponse:
    """Count the bytes of the body, whatever its size."""
    # In pieces: request.body refuses what is larger than DATA_UPLOAD_MAX_MEMORY_SIZE.
    size = 0
    while chunk := request.read(CHUNK_BYTES):
        size += len(chunk)
    return JsonResponse({"bytes": size})


def boom(_request: HttpRequest) -> HttpResponse:
    """Fail, so that a 500 and its traceback can be seen."""
    raise RuntimeError("boom: this address always fails")
