"""The table of contents of `fab` and `invoke`."""

from invoke import Collection

from . import lab, tasks
from .commands.check import check
from .completion import complete_hosts
from .executor import collect_seldom, serve_fab

collect_seldom()
serve_fab()
complete_hosts()
namespace = Collection(
    tasks.init,
    tasks.deploy,
    tasks.plan,
    tasks.rollback,
    tasks.restart,
    tasks.reload,
    tasks.status,
    tasks.releases,
    tasks.logs,
    tasks.history,
    tasks.manage,
    tasks.run,
    tasks.shell,
    tasks.dbshell,
    tasks.ssh,
    tasks.lock,
    tasks.unlock,
    tasks.provision,
    tasks.adopt,
    tasks.remove,
    check,
    link=Collection(tasks.put),
    maintenance=Collection(tasks.on, tasks.off),
    secrets=Collection(
        list=tasks.list_secrets, set=tasks.set_secret, unset=tasks.unset_secret, token=tasks.replace_token
    ),
    **({"lab": lab.module("tasks").namespace} if lab.IS_THERE else {}),
)
