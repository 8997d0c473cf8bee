"""Adds who wrote a note."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Note.author, with a default in the database: code that does not know the column can still insert."""

    dependencies = (("pages", "0001_initial"),)
    operations = (
        migrations.AddField(
            model_name="note",
            name="author",
            field=models.CharField(blank=True, db_default="", max_length=80),
        ),
    )
