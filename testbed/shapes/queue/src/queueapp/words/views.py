from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt

from .models import Text
from .tasks import count


@csrf_exempt
def index(request):
    if request.method == "POST":
        count.delay(Text.objects.create(body=request.POST["body"]).pk)
        return redirect("/")
    return render(request, "words/index.html", {"texts": Text.objects.order_by("-id")})
