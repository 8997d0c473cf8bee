from django.shortcuts import render
from shared_lib import greet


def index(request):
    return render(request, "home/index.html", {"greeting": greet("visitor")})
