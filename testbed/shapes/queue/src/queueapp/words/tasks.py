from celery import shared_task

from .models import Text


@shared_task
def count(pk):
    text = Text.objects.get(pk=pk)
    text.words = len(text.body.split())
    text.save()
