"""The home page and its site, from the fixture, in place of the page that Wagtail begins with."""

from django.core.management import call_command
from django.db import migrations


def load(apps, schema_editor):
    # The fixture names the page's type, which Django makes only after all migrations.
    apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label="home", model="homepage")
    apps.get_model("wagtailcore", "Site").objects.all().delete()
    apps.get_model("wagtailcore", "Page").objects.filter(depth=2).delete()
    call_command("loaddata", "home", verbosity=0)


class Migration(migrations.Migration):
    # loaddata writes by the models of today: all tables that saving a page touches have to be as they are today.
    dependencies = [
        ("home", "0001_initial"),
        ("wagtailcore", "0097_baselogentry_uuid_action_timestamp_indexes"),
        ("wagtailsearch", "0010_add_text_fields"),
    ]
    operations = [migrations.RunPython(load, migrations.RunPython.noop)]
