"""The table of contents of `fab` and `invoke`."""

from invoke import Collection

from fabfile import verbs
from fabfile.check import check
from fabfile.lab.tasks import namespace as lab_tasks

namespace = Collection(
    verbs.deploy,
    verbs.rollback,
    verbs.restart,
    verbs.reload,
    verbs.status,
    verbs.releases,
    verbs.logs,
    verbs.lock,
    verbs.unlock,
    verbs.provision,
    check,
    lab=lab_tasks,
)
