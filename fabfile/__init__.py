"""The table of contents of `fab` and `invoke`."""

from invoke import Collection

from fabfile import lab, tasks
from fabfile.commands.check import check

namespace = Collection(
    tasks.deploy,
    tasks.rollback,
    tasks.restart,
    tasks.reload,
    tasks.status,
    tasks.releases,
    tasks.logs,
    tasks.lock,
    tasks.unlock,
    tasks.provision,
    check,
    **({"lab": lab.module("tasks").namespace} if lab.TESTBED.is_dir() else {}),
)
