"""Every address of the site."""

from django.urls import path
from jobs.views import jobs
from pages import views

urlpatterns = [
    path("", views.index),
    path("healthz", views.health),
    path("notes/", views.notes),
    path("jobs/", jobs),
    path("slow/", views.slow),
    path("upload/", views.upload),
    path("boom/", views.boom),
]
