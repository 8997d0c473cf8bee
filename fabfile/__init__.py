"""The table of contents of `fab` and `invoke`."""

from invoke import Collection

from . import lab, tasks
from .commands.check import check
from .executor import serve_fab

serve_fab()
namespace = Collection(
    tasks.init,
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
    tasks.remove,
    check,
    link=Collection(tasks.put),
    maintenance=Collection(tasks.on, tasks.off),
    **({"lab": lab.module("tasks").namespace} if lab.IS_THERE else {}),
)
