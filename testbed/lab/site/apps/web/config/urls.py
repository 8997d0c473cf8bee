"""Every address of the site."""

from django.conf import settings
from django.urls import path
from pages import views

urlpatterns = [
    path("", views.index),
    path("healthz", views.health),
    path("notes/", views.notes),
    path("slow/", views.slow),
    path("upload/", views.upload),
    path("boom/", views.boom),
]

if settings.JOBS:
    from jobs.views import jobs

    urlpatterns.append(path("jobs/", jobs))
