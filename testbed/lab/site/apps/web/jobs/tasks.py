"""What the queue's workers do."""

from django_tasks import task

from jobs import models


@task()
def work(name: str, seconds: float) -> None:
    """Do a job of that many seconds."""
    models.work(name, seconds)
