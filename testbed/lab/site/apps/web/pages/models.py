"""What the site keeps."""

from django.db import models


class Note(models.Model):
    """A line that a visitor left."""

    text = models.CharField(max_length=500)
    author = models.CharField(max_length=80, blank=True, db_default="")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.text
