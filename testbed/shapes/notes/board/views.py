from django.shortcuts import redirect, render

from .forms import NoteForm
from .models import Note


def index(request):
    form = NoteForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("/")
    return render(request, "board/index.html", {"notes": Note.objects.order_by("-id"), "form": form})
