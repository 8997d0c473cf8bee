from django.contrib import admin
from django.http import HttpResponse
from django.urls import path
from guestbook.views import index

urlpatterns = [
    path("", index),
    path("admin/", admin.site.urls),
    path("healthz", lambda request: HttpResponse("ok")),
]
