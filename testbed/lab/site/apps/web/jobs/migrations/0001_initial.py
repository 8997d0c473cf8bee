"""Makes the table of runs."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Run(name, release, pid, began, ended)."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Run",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=80)),
                ("release", models.CharField(max_length=80)),
                ("pid", models.PositiveIntegerField()),
                ("began", models.DateTimeField(auto_now_add=True)),
                ("ended", models.DateTimeField(null=True)),
            ],
            options={"ordering": ("-id",)},
        ),
    )
