"""Loaded by other programs here: judges what a migration does to a site that serves, by its operations.

While a migration is applied, and until the switch, the code of before runs on: what it cannot bear `breaks` it. The
rules are Django's and PostgreSQL's: Django drops the default of a column that it has added unless that is a db_default;
an index that is not built CONCURRENTLY keeps writers waiting; a column of another type is rewritten under a lock that
keeps everybody waiting. The app's Python runs this file: no syntax is newer than Python 3.9.
"""

import re

TEXTS = ("CharField", "SlugField", "FileField", "FilePathField", "TextField")
TABLE = r"alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?([\w.\"]+)"
SQL_BREAKS = (
    (r"drop\s+(?:table|view|materialized\s+view)\s+(?:if\s+exists\s+)?([\w.\"]+)", "{} goes"),
    (r"drop\s+column\s+(?:if\s+exists\s+)?([\w\"]+)", "column {} goes"),
    (r"rename\s+column\s+([\w\"]+)", "column {} gets another name"),
    (rf"{TABLE}\s+rename\s+to\b", "table {} gets another name"),
    (r"alter\s+(?:column\s+)?([\w\"]+)\s+set\s+not\s+null", "column {} may be empty no more"),
    (r"truncate\s+(?:table\s+)?([\w.\"]+)", "all rows of {} go"),
)
SQL_LOCKS = (
    (
        r"create\s+(?:unique\s+)?index\s+(?!concurrently)[^;]*?\bon\s+(?:only\s+)?([\w.\"]+)",
        "nobody writes while an index is built",
    ),
    (rf"{TABLE}[^;]*?\salter\s[^;]*?\stype\s", "every row is rewritten"),
    (rf"{TABLE}[^;]*?\bset\s+not\s+null", "every row is read"),
    (rf"{TABLE}[^;]*?\badd\s+constraint(?![^;]*not\s+valid)", "every row is checked"),
    (r"lock\s+(?:table\s+)?([\w.\"]+)", "it is locked"),
    (r"(?:cluster|vacuum\s+full)\s+([\w.\"]+)", "every row is rewritten"),
    (r"update\s+(?:only\s+)?([\w.\"]+)\s+set", "rows are changed"),
    (r"delete\s+from\s+(?:only\s+)?([\w.\"]+)", "rows are deleted"),
)


class Judge:
    """Judges operations of one app, one after the other; `state` is how the next one finds the models.

    `breaks` in words, `locks` as pairs of table and reason, `irreversible` and `own` (what nobody can judge) in words.
    """

    def __init__(self, app, state):
        self.app, self.state = app, state
        self.breaks, self.locks, self.irreversible, self.own = [], [], [], []

    def judge(self, operation):
        """Judge an operation, by the nearest of its classes that is known, and follow it."""
        names = [kind.__name__ for kind in type(operation).__mro__]
        known = next((name for name in names if name in HARMLESS or name in RULES), None)
        if known is None:
            self.own.append(operation.describe())
        elif known in RULES:
            RULES[known](self, operation)
        if not operation.reversible:
            self.irreversible.append(operation.describe())
        operation.state_forwards(self.app, self.state)

    def separate(self, operation):
        """What the database sees of an operation that has two sides."""
        state, self.state = self.state, without_classes(self.state)
        for each in operation.database_operations:
            self.judge(each)
        self.state = state

    def delete_model(self, operation):
        if self.is_stored(operation.name):
            self.breaks.append(f"table {self.table(operation.name)} goes")

    def rename_model(self, operation):
        if self.is_stored(operation.old_name) and "db_table" not in self.model(operation.old_name).options:
            self.breaks.append(f"table {self.table(operation.old_name)} gets another name")

    def alter_table(self, operation):
        now, wanted = self.table(operation.name), operation.table or f"{self.app}_{operation.name.lower()}"
        if self.is_stored(operation.name) and now != wanted:
            self.breaks.append(f"table {now} gets the name {wanted}")

    def add_field(self, operation):
        field, where = operation.field, self.table(operation.model_name)
        if field.many_to_many or not self.is_stored(operation.model_name):
            return
        if getattr(field, "generated", False):
            if field.db_persist:
                self.locks.append((where, "every row is rewritten"))
            return
        if not field.null and not has_db_default(field):
            what = f"{where}.{column(operation.name, field)}"
            self.breaks.append(f"{what} is required and has no db_default: code that does not know it can add no rows")
        if field.unique or field.db_index:
            self.locks.append((where, "an index is built"))

    def remove_field(self, operation):
        if not self.is_stored(operation.model_name):
            return
        field, where = self.field(operation), self.table(operation.model_name)
        if field.many_to_many:
            self.breaks.append(f"the table of {where}.{operation.name} goes")
        else:
            self.breaks.append(f"column {where}.{column(operation.name, field)} goes")

    def rename_field(self, operation):
        field = self.model(operation.model_name).fields[operation.old_name]
        if self.is_stored(operation.model_name) and not field.db_column:
            where = self.table(operation.model_name)
            self.breaks.append(f"column {where}.{column(operation.old_name, field)} gets another name")

    def alter_field(self, operation):
        old, new, name = self.field(operation), operation.field, operation.name
        if not self.is_stored(operation.model_name) or (old.many_to_many and new.many_to_many):
            return
        where = self.table(operation.model_name)
        what = f"{where}.{column(name, old)}"
        if column(name, old) != column(name, new):
            self.breaks.append(f"column {what} gets the name {column(name, new)}")
        if old.null and not new.null:
            self.locks.append((where, "every row is read"))
            if not has_db_default(new):
                self.breaks.append(f"{what} may be empty no more, and the code of before may leave it so")
        if (new.unique and not old.unique) or (new.db_index and not old.db_index and not old.unique):
            self.locks.append((where, "an index is built"))
        if is_shorter(old, new):
            self.breaks.append(f"{what} is shorter than the code of before takes it to be")
        if is_shorter(old, new) or is_of_another_type(old, new):
            self.locks.append((where, "every row is rewritten"))

    def add_index(self, operation):
        self.lock(operation.model_name, "nobody writes while an index is built")

    def add_constraint(self, operation):
        self.lock(operation.model_name, "every row is checked")

    def alter_together(self, operation):
        if operation.option_value:
            self.lock(operation.name, "an index is built")

    def alter_order(self, operation):
        if self.is_stored(operation.name):
            what = f"{self.table(operation.name)}._order"
            self.breaks.append(f"column {what} comes or goes, and the code that does not know that can add no rows")

    def run_python(self, operation):
        name = getattr(operation.code, "__name__", "code")
        if name != "noop":
            self.own.append(f"runs {name}")

    def run_sql(self, operation):
        sql = " ".join(text_of(operation.sql).split())
        for pattern, words in SQL_BREAKS:
            self.breaks += [
                words.format(found[1].replace('"', "")) for found in re.finditer(pattern, sql, re.IGNORECASE)
            ]
        for pattern, why in SQL_LOCKS:
            self.locks += [(found[1].replace('"', ""), why) for found in re.finditer(pattern, sql, re.IGNORECASE)]
        if sql:
            self.own.append(f"SQL of its own: {sql[:80]}")

    def lock(self, name, why):
        if self.is_stored(name):
            self.locks.append((self.table(name), why))

    def model(self, name):
        return self.state.models[self.app, name.lower()]

    def is_stored(self, name):
        """Whether the model's table is Django's to change."""
        options = self.model(name).options
        return options.get("managed", True) and not options.get("proxy", False)

    def table(self, name):
        return self.model(name).options.get("db_table") or f"{self.app}_{name.lower()}"

    def field(self, operation):
        return self.model(operation.model_name).fields[operation.name]


RULES = {
    "SeparateDatabaseAndState": Judge.separate, "DeleteModel": Judge.delete_model, "RenameModel": Judge.rename_model,
    "AlterModelTable": Judge.alter_table, "AddField": Judge.add_field, "RemoveField": Judge.remove_field,
    "RenameField": Judge.rename_field, "AlterField": Judge.alter_field, "AddIndex": Judge.add_index,
    "AddConstraint": Judge.add_constraint, "AlterUniqueTogether": Judge.alter_together,
    "AlterIndexTogether": Judge.alter_together, "AlterOrderWithRespectTo": Judge.alter_order,
    "RunPython": Judge.run_python, "RunSQL": Judge.run_sql,
}  # fmt: skip
HARMLESS = {
    "CreateModel", "AlterModelOptions", "AlterModelManagers", "AlterModelTableComment", "RemoveIndex", "RenameIndex",
    "RemoveConstraint", "AddIndexConcurrently", "RemoveIndexConcurrently", "AddConstraintNotValid",
    "ValidateConstraint", "CreateExtension", "CreateCollation", "RemoveCollation",
}  # fmt: skip


def of(migration, state):
    """The verdict on a migration that is about to be applied to `state`, as a dict of lists. Never raises."""
    judge = Judge(migration.app_label, state)
    try:
        judge.state = without_classes(state)
        for operation in migration.operations:
            judge.judge(operation)
    except Exception as error:
        judge.own.append(f"cannot be judged ({type(error).__name__}: {error})")
    return {
        "breaks": judge.breaks,
        "locks": [list(lock) for lock in dict.fromkeys(judge.locks)],
        "irreversible": judge.irreversible,
        "own": judge.own,
    }


def without_classes(state):
    """A copy of a state that has rendered no model classes: to follow operations with them takes seconds."""
    return type(state)({key: model.clone() for key, model in state.models.items()}, real_apps=state.real_apps)


def text_of(sql):
    if isinstance(sql, str):
        return re.sub(r"--[^\n]*", "", sql)
    if isinstance(sql, (list, tuple)):
        return "; ".join(text_of(each[0] if isinstance(each, (list, tuple)) else each) for each in sql)
    return ""


def found_in(sql, rules):
    """Pairs of the name that a rule's pattern finds and the rule's words."""
    return [
        (found[1].replace('"', ""), words)
        for pattern, words in rules
        for found in re.finditer(rf"\b{pattern}", sql, re.IGNORECASE)
    ]


def column(name, field):
    return field.db_column or (f"{name}_id" if field.many_to_one or field.one_to_one else name)


def has_db_default(field):
    default = getattr(field, "db_default", None)
    return default is not None and getattr(default, "__name__", "") != "NOT_PROVIDED"


def is_shorter(old, new):
    """Whether a text gets less room."""
    old_length, new_length = getattr(old, "max_length", None), getattr(new, "max_length", None)
    if new_length is None or new.get_internal_type() not in TEXTS:
        return False
    return old_length is None or new_length < old_length


def is_of_another_type(old, new):
    """Whether the column gets another type, other than a text with more room."""
    old_type, new_type = old.get_internal_type(), new.get_internal_type()
    if old_type in TEXTS and new_type in TEXTS:
        return False
    sized = ("max_digits", "decimal_places", "base_field", "to", "srid", "dim")
    options = [{key: str(field.deconstruct()[3].get(key)) for key in sized} for field in (old, new)]
    return old_type != new_type or options[0] != options[1]
