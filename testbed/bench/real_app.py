"""An app of the size of a real one, made from the sample site: 60 packages and more, of which it imports most when it
starts, 100 templates, 500 static files, 80 migrations."""

from pathlib import Path
from string import Template

from testbed.harness import SETTINGS, URLS, WEB, Site
from testbed.load import locked

PLACE = "apps/web/shop"
TEMPLATES, STATIC_FILES, MODELS, FIELDS = 100, 500, 8, 9  # a migration for each model, and one for each field
# What it depends on, and what it imports of that; with what they need themselves it comes to more than 60 packages.
PACKAGES = {
    "arrow": "arrow",
    "babel": "babel.dates",
    "beautifulsoup4": "bs4",
    "boto3": "boto3",
    "celery": "celery",
    "cryptography": "cryptography.fernet",
    "django-cors-headers": "corsheaders.middleware",
    "django-filter": "django_filters",
    "django-redis": "django_redis",
    "django-storages": "storages.utils",
    "djangorestframework": "rest_framework.serializers",
    "httpx": "httpx",
    "jinja2": "jinja2",
    "jsonschema": "jsonschema",
    "lxml": "lxml.etree",
    "markdown": "markdown",
    "nh3": "nh3",
    "openpyxl": "openpyxl",
    "orjson": "orjson",
    "phonenumbers": "phonenumbers",
    "pillow": "PIL.Image",
    "pydantic": "pydantic",
    "pydantic-settings": "pydantic_settings",
    "pyjwt": "jwt",
    "python-slugify": "slugify",
    "pyyaml": "yaml",
    "qrcode": "qrcode",
    "requests": "requests",
    "rich": "rich.console",
    "sentry-sdk": "sentry_sdk",
    "stripe": "stripe",
    "structlog": "structlog",
    "tenacity": "tenacity",
    "whitenoise": "whitenoise.middleware",
    "xlsxwriter": "xlsxwriter",
}
APPS = ("django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "rest_framework", "shop")
CREATE = Template('''"""Makes the table of $model."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "$before")]
    operations = [
        migrations.CreateModel(
            name="$model",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                )
            ],
        )
    ]
''')
ADD = Template('''"""Adds $field."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "$before")]
    operations = [
        migrations.AddField("$model", "$field", models.CharField(blank=True, db_default="", max_length=80))
    ]
''')
VIEWS = Template('''"""The shop's pages, and all that a real app imports for them."""

$imports
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def page(request: HttpRequest, number: int) -> HttpResponse:
    return render(request, f"shop/page_{number}.html")
''')
PAGE = Template("""{% load static %}
<link rel="stylesheet" href="{% static 'shop/style_$number.css' %}">
<h2>$number</h2>
""")


def commit(site: Site) -> None:
    """Make the sample's repository that of a real-size app."""
    read = site.repository.read
    urls = read(URLS).replace(
        "urlpatterns = [\n", 'urlpatterns = [\n    path("shop/<int:number>/", shop.views.page),\n'
    )
    settings = read(SETTINGS).replace('"pages"]', f'"pages", {", ".join(map(repr, APPS))}]')
    packages = "".join(f'    "{name}",\n' for name in PACKAGES)
    web = read(WEB).replace('    "greeting",\n', f'    "greeting",\n{packages}')
    changes = {URLS: f"import shop.views\n{urls}", SETTINGS: settings, **files()}
    site.commit({**changes, **locked(site, {WEB: web})}, "An app of real size")


def files() -> dict[str, str]:
    """The app's own files, by path."""
    imports = "\n".join(f"import {module}" for module in sorted(PACKAGES.values()))
    made = {"__init__.py": "", "migrations/__init__.py": "", "models.py": models()}
    made |= {"views.py": VIEWS.substitute(imports=imports)}
    made |= {f"templates/shop/page_{number}.html": PAGE.substitute(number=number) for number in range(TEMPLATES)}
    made |= {f"static/shop/{name}": text for name, text in static_files()}
    made |= {f"migrations/{name}.py": text for name, text in migrations()}
    return {str(Path(PLACE, name)): text for name, text in made.items()}


def names() -> list[tuple[str, str]]:
    """Each model, and each field of each model, in the order in which they came; a model itself has no field's name."""
    fields = ["", *(f"field_{number}" for number in range(FIELDS))]
    return [(f"Thing{number}", field) for field in fields for number in range(MODELS)]


def migrations() -> list[tuple[str, str]]:
    """One for each of the names; each builds on the one before."""
    made, before = [], ""
    for number, (model, field) in enumerate(names(), 1):
        name = f"{number:04}_{field or 'made'}_{model.lower()}"
        text = (ADD if field else CREATE).substitute(model=model, field=field, before=before)
        made.append((name, text if before else text.replace('[("shop", "")]', "[]")))
        before = name
    return made


def models() -> str:
    """The models that the migrations come to."""
    lines = ['"""What the shop keeps."""', "", "from django.db import models"]
    for model in dict.fromkeys(model for model, _ in names()):
        lines += ["", "", f"class {model}(models.Model):"]
        lines += [
            f'    {field} = models.CharField(blank=True, db_default="", max_length=80)'
            for name, field in names()
            if name == model and field
        ]
    return "\n".join([*lines, ""])


def static_files() -> list[tuple[str, str]]:
    """Stylesheets that name pictures, and scripts: some KB each."""
    made = []
    for number in range(STATIC_FILES // 5):
        rules = "".join(f".shop-{number}-{rule} {{ margin: {rule}px; }}\n" for rule in range(100))
        made.append((f"style_{number}.css", f".shop {{ background: url(picture_{number}.svg); }}\n{rules}"))
        made.append((f"picture_{number}.svg", f'<svg xmlns="http://www.w3.org/2000/svg"><text>{number}</text></svg>\n'))
        made += [(f"script_{number}_{part}.js", f"// {number}\n" + "let a = 1;\n" * 200) for part in range(3)]
    return made
