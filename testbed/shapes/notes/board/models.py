from django.db import models


class Note(models.Model):
    text = models.CharField(max_length=200)
    attachment = models.FileField(upload_to="notes/", blank=True)
