"""What a migration does to a site that serves, judged by real Djangos over migrations as public apps have them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.test_data import DJANGO, OLDEST, PROGRAMS, django_of

__all__ = ["django_of"]

# The models of a small shop, as they were; then in each case what comes.
JUDGE = """
import json, os, runpy, sys
import django
from django.conf import settings
settings.configured or settings.configure(INSTALLED_APPS=[], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()
from django.db import migrations, models
from django.db.migrations import operations
from django.db.migrations.state import ModelState, ProjectState

def clean(apps, editor): pass

class Sparkle(operations.base.Operation):
    reversible = True
    def state_forwards(self, app, state): pass
    def describe(self): return "Add sparkle"

state = ProjectState()
for name, fields, options in (
    ("Customer", [("name", models.CharField(max_length=80)), ("mail", models.EmailField(null=True))], {}),
    ("Order", [
        ("number", models.IntegerField()), ("note", models.TextField(blank=True)),
        ("total", models.DecimalField(max_digits=8, decimal_places=2)), ("state", models.CharField(max_length=9)),
        ("customer", models.ForeignKey("shop.Customer", models.CASCADE)),
        ("tags", models.ManyToManyField("shop.Customer", related_name="+")),
        ("old", models.CharField(max_length=5, db_column="legacy")),
    ], {"db_table": "orders"}),
    ("Report", [("text", models.TextField())], {"managed": False}),
):
    state.add_model(ModelState("shop", name, [("id", models.BigAutoField(primary_key=True)), *fields], options))

def judged(*every):
    migration = type("Migration", (migrations.Migration,), {"operations": list(every)})("0002_x", "shop")
    return runpy.run_path(sys.argv[1])["of"](migration, state)

cases = eval(sys.argv[2], globals())
print(json.dumps({name: judged(*(every if isinstance(every, tuple) else (every,))) for name, every in cases.items()}))
"""
CASES = """{
    "new table": operations.CreateModel("Voucher", [("id", models.BigAutoField(primary_key=True))]),
    "field that may be empty": operations.AddField("order", "paid", models.DateTimeField(null=True)),
    "required field": operations.AddField("order", "channel", models.CharField(max_length=9, default="web")),
    "required key": operations.AddField(
        "order", "shipper", models.ForeignKey("shop.Customer", models.CASCADE, default=1)),
    "field with an index": operations.AddField(
        "order", "ref", models.CharField(max_length=9, null=True, unique=True)),
    "many to many": operations.AddField("order", "gifts", models.ManyToManyField("shop.Customer")),
    "field goes": operations.RemoveField("order", "note"),
    "field with a column of its own goes": operations.RemoveField("order", "old"),
    "key goes": operations.RemoveField("order", "customer"),
    "many to many goes": operations.RemoveField("order", "tags"),
    "field renamed": operations.RenameField("customer", "name", "full_name"),
    "field renamed over its column": operations.RenameField("order", "old", "older"),
    "model renamed": operations.RenameModel("Customer", "Client"),
    "model renamed over its table": operations.RenameModel("Order", "Purchase"),
    "table renamed": operations.AlterModelTable("customer", "clients"),
    "model goes": operations.DeleteModel("Customer"),
    "model that is not ours goes": operations.DeleteModel("Report"),
    "empty no more": operations.AlterField("customer", "mail", models.EmailField(default="")),
    "longer": operations.AlterField("customer", "name", models.CharField(max_length=200)),
    "a text": operations.AlterField("customer", "name", models.TextField()),
    "shorter": operations.AlterField("customer", "name", models.CharField(max_length=20)),
    "wider": operations.AlterField("order", "total", models.DecimalField(max_digits=12, decimal_places=4)),
    "another type": operations.AlterField("order", "number", models.BigIntegerField()),
    "unique": operations.AlterField("order", "number", models.IntegerField(unique=True)),
    "only words": operations.AlterField(
        "order", "state", models.CharField("State", max_length=9, choices=[("a", "A")])),
    "index": operations.AddIndex("order", models.Index(fields=["number"], name="by_number")),
    "together": operations.AlterUniqueTogether("order", {("number", "state")}),
    "constraint": operations.AddConstraint("order", models.UniqueConstraint(fields=["number"], name="once")),
    "code": operations.RunPython(clean, operations.RunPython.noop),
    "code for ever": operations.RunPython(clean),
    "no code": operations.RunPython(operations.RunPython.noop, operations.RunPython.noop),
    "sql index": operations.RunSQL("CREATE INDEX x ON orders (number)", "DROP INDEX x"),
    "sql index beside": operations.RunSQL("CREATE INDEX CONCURRENTLY x ON orders (number)", "DROP INDEX x"),
    "sql drops": operations.RunSQL(
        [("ALTER TABLE orders DROP COLUMN note", None), "DROP TABLE IF EXISTS \\"old_orders\\""]),
    "sql fills": operations.RunSQL("-- DROP TABLE x\\nUPDATE orders SET note = ''", ""),
    "sql type": operations.RunSQL("ALTER TABLE orders ALTER number TYPE bigint", ""),
    "state alone": operations.SeparateDatabaseAndState([], [operations.RemoveField("order", "note")]),
    "database alone": operations.SeparateDatabaseAndState([operations.RemoveField("order", "note")], []),
    "kind of its own": Sparkle(),
    "two steps": (
        operations.AddField("order", "kind", models.TextField(null=True)),
        operations.AlterField("order", "kind", models.TextField(default="")),
    ),
    "gone already": operations.RemoveField("order", "nowhere"),
}"""
REQUIRED = "is required and has no db_default: code that does not know it can add no rows"
GONE = {
    "field goes": "column orders.note goes",
    "field with a column of its own goes": "column orders.legacy goes",
    "key goes": "column orders.customer_id goes",
    "many to many goes": "the table of orders.tags goes",
    "field renamed": "column shop_customer.name gets another name",
    "model renamed": "table shop_customer gets another name",
    "table renamed": "table shop_customer gets the name clients",
    "model goes": "table shop_customer goes",
    "required field": f"orders.channel {REQUIRED}",
    "required key": f"orders.shipper_id {REQUIRED}",
    "empty no more": "shop_customer.mail may be empty no more, and the code of before may leave it so",
    "shorter": "shop_customer.name is shorter than the code of before takes it to be",
    "sql drops": "old_orders goes; column note goes",
    "database alone": "column orders.note goes",
    "two steps": "orders.kind may be empty no more, and the code of before may leave it so",
}
LOCKED = {
    "required key": "orders: an index is built",
    "field with an index": "orders: an index is built",
    "empty no more": "shop_customer: every row is read",
    "shorter": "shop_customer: every row is rewritten",
    "wider": "orders: every row is rewritten",
    "another type": "orders: every row is rewritten",
    "unique": "orders: an index is built",
    "index": "orders: nobody writes while an index is built",
    "together": "orders: an index is built",
    "constraint": "orders: every row is checked",
    "sql index": "orders: nobody writes while an index is built",
    "sql fills": "orders: rows are changed",
    "sql type": "orders: every row is rewritten",
    "two steps": "orders: every row is read",
}
FOR_EVER = {"code for ever", "sql drops"}
OWN = {
    "code": "runs clean",
    "code for ever": "runs clean",
    "sql index": "SQL of its own: CREATE INDEX x ON orders (number)",
    "sql index beside": "SQL of its own: CREATE INDEX CONCURRENTLY x ON orders (number)",
    "sql drops": 'SQL of its own: ALTER TABLE orders DROP COLUMN note; DROP TABLE IF EXISTS "old_orders"',
    "sql fills": "SQL of its own: UPDATE orders SET note = ''",
    "sql type": "SQL of its own: ALTER TABLE orders ALTER number TYPE bigint",
    "kind of its own": "Add sparkle",
    "gone already": "cannot be judged (KeyError: 'nowhere')",
}
NEWEST = """{
    "required field that the database fills": operations.AddField(
        "order", "channel", models.TextField(db_default="web")),
    "empty no more, but filled": operations.AlterField("customer", "mail", models.EmailField(db_default="")),
    "generated": operations.AddField("order", "twice", models.GeneratedField(
        expression=models.F("number") * 2, output_field=models.IntegerField(), db_persist=True)),
}"""


def judged(python: Any, folder: Path, cases: str) -> dict[str, Any]:
    done = python.run(JUDGE, PROGRAMS / "verdicts.py", cases, folder=folder, environment=os.environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", OLDEST + DJANGO)
def test_what_a_migration_does_to_the_code_that_runs(django_of: Any, tmp_path: Path, version: str) -> None:
    """Whether it breaks that code, which tables it locks, what cannot be reversed, and what nobody can judge."""
    told = judged(django_of(version), tmp_path, CASES)
    assert {name: "; ".join(each["breaks"]) for name, each in told.items() if each["breaks"]} == GONE
    locks = {name: "; ".join(": ".join(lock) for lock in each["locks"]) for name, each in told.items() if each["locks"]}
    assert locks == LOCKED
    assert {name for name, each in told.items() if each["irreversible"]} == FOR_EVER
    assert {name: "; ".join(each["own"]) for name, each in told.items() if each["own"]} == OWN


def test_what_newer_djangos_leave_to_the_database(django_of: Any, tmp_path: Path) -> None:
    """A default of the database's own lets code add rows that does not know the field."""
    told = judged(django_of(DJANGO[-1]), tmp_path, NEWEST)
    assert not any(each["breaks"] for each in told.values())
    assert [each["locks"] for each in told.values()] == [
        [], [["shop_customer", "every row is read"]], [["orders", "every row is rewritten"]],
    ]  # fmt: skip
