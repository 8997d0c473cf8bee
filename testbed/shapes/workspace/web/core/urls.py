from django.http import HttpResponse
from django.urls import path

from home.views import index

urlpatterns = [path("", index), path("healthz", lambda request: HttpResponse("ok"))]
