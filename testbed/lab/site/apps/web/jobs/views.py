"""Ordering jobs, and seeing what became of them."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from jobs.forms import JobForm
from jobs.models import Run
from jobs.tasks import work


@csrf_exempt
@never_cache
@require_http_methods(["GET", "POST"])
def jobs(request: HttpRequest) -> JsonResponse:
    """List every run, the newest first, or put a job in the queue from the form fields `name` and `seconds`."""
    if request.method == "POST":
        return order(request)
    runs = [
        {
            "name": run.name,
            "release": run.release,
            "pid": run.pid,
            "began": run.began.isoformat(),
            "ended": run.ended and run.ended.isoformat(),
        }
        for run in Run.objects.all()
    ]
    return JsonResponse({"runs": runs})


def order(request: HttpRequest) -> JsonResponse:
    """Put a job in the queue and answer 202, or 400 with what is wrong per field."""
    form = JobForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    work.enqueue(**form.cleaned_data)
    return JsonResponse(form.cleaned_data, status=202)
