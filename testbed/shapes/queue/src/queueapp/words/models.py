from django.db import models


class Text(models.Model):
    body = models.TextField()
    words = models.IntegerField(null=True)
