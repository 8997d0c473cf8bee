"""What is kept of a job's run."""

import os
import time

from config import release
from django.db import models
from django.utils import timezone


class Run(models.Model):
    """One run of a job: by which release and process, from when to when; `ended` is empty while it runs."""

    name = models.CharField(max_length=80)
    release = models.CharField(max_length=80)
    pid = models.PositiveIntegerField()
    began = models.DateTimeField(auto_now_add=True)
    ended = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} by {self.pid} of {self.release}"


def work(name: str, seconds: float) -> None:
    """Do a job: note that it began, take its time, note that it ended; earlier, once a job "NAME may end" has begun."""
    run = Run.objects.create(name=name, release=release.ID, pid=os.getpid())
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not Run.objects.filter(name=f"{name} may end").exists():
        time.sleep(min(left, 0.5))
    run.ended = timezone.now()
    run.save(update_fields=["ended"])
