from django.http import HttpResponse
from django.urls import path

from queueapp.words.views import index

urlpatterns = [path("", index), path("healthz", lambda request: HttpResponse("ok"))]
