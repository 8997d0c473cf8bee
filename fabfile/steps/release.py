"""A release as a folder: fetched, laid out, made live by one rename, marked, recorded, pruned."""

from shlex import quote

from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.steps.step import Step

# Never a prompt, and no background gc: it would inherit the lock (facts 17).
GIT = """
export GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND='ssh -oBatchMode=yes -oConnectTimeout=10 -oStrictHostKeyChecking=accept-new'
git() { command git -c gc.auto=0 -c maintenance.auto=false -c advice.detachedHead=false "$@"; }
"""


def sweep(layout: Layout) -> str:
    """The bash lines that delete what was thrown away, in a child that outlives the conductor and has not its lock."""
    return f"""
(
  renice --priority 19 $BASHPID # some ten thousand files: visitors come first
  cd {quote(str(layout.releases))}
  rm -rf .trash-*
  command git -c gc.autoDetach=false -C {quote(str(layout.repo))} gc --auto --quiet
) </dev/null >/dev/null 2>&1 9>&- &
"""


def fetch(layout: Layout, settings: Settings, ref: str) -> Step:
    """Bring the mirror up to date; answers `commit SHA SUBJECT`, or `known NAME` lines when nothing is called `ref`.

    Takes away what a switch or a prune has left that was cut, for there may be nothing else to do.
    """
    return Step(
        "Fetch the repository",
        f"""{GIT}
repo={quote(str(layout.repo))} ref={quote(ref)}
rm -f {quote(str(layout.current))}.new
if compgen -G {quote(str(layout.releases))}'/.trash-*' >/dev/null; then {sweep(layout)} fi
if [ ! -d "$repo" ]; then
  rm -rf "$repo.new"
  git init --quiet --bare "$repo.new"
  mv -T "$repo.new" "$repo"
fi
cd "$repo"
# A git that was killed leaves its locks; nobody else is here, the deploy's own lock sees to that.
find . \\( -path ./objects -o -path ./worktrees \\) -prune -o -name '*.lock' -type f -exec rm -f {{}} +
rm -f objects/pack/tmp_* objects/??/tmp_obj_* # half of what a killed fetch had got
grep -qsx /.deploy/ info/exclude || echo /.deploy/ >>info/exclude
[ "$(git config remote.origin.url || true)" = {quote(settings.repo or "")} ] || git config remote.origin.url {quote(settings.repo or "")}
git fetch --quiet --prune --force --no-tags origin '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'
for name in "refs/heads/$ref" "refs/tags/$ref"; do
  if commit=$(git rev-parse --verify --quiet "$name^{{commit}}"); then break; fi
done
if [ -z "$commit" ] && [[ $ref =~ ^[0-9a-f]{{7,40}}$ ]]; then
  commit=$(git rev-parse --verify --quiet "$ref^{{commit}}" || true)
fi
if [ -n "$commit" ]; then
  git log -1 --format='commit %H %s' "$commit"
else
  git for-each-ref --count=500 --sort=-committerdate --format='known %(refname:lstrip=2)' refs/heads refs/tags
fi
""",
        timeout=settings.timeouts.fetch,
    )


def lay_out(layout: Layout, release: Release, commit: str, settings: Settings) -> Step:
    """Check the commit out as a worktree with the linked folders and files in place.

    Takes `gunicorn.conf.py`, `gunicorn.json` and `release.json` from the files sent to the conductor.
    """
    links = "\n".join(
        [f"link_dir {quote(name)}" for name in settings.linked_dirs]
        + [f"link_file {quote(name)}" for name in settings.linked_files]
    )
    return Step(
        "Lay out the release",
        f"""{GIT}
release={quote(str(release.root))} shared={quote(str(layout.shared))}
link_dir() {{
  mkdir -p "$shared/$1" "$(dirname "$1")"
  [ "$(realpath "$1")" != "$(realpath "$shared/$1")" ] || return 0 # it lies inside another linked folder
  if [ -d "$1" ] && [ ! -L "$1" ]; then tar -C "$1" -c . | tar -C "$shared/$1" -x --skip-old-files; rm -rf "$1"; fi
  ln -sfn "$shared/$1" "$1"
}}
link_file() {{
  [ -e "$shared/$1" ] || {{ echo "the linked file $shared/$1 is not there"; exit 1; }}
  mkdir -p "$(dirname "$1")"
  ln -sfn "$shared/$1" "$1"
}}
cd {quote(str(layout.repo))}
[ -e "$release/.deploy/built" ] || rm -rf "$release" "worktrees/${{release##*/}}" # left by a run that was cut
rm -f worktrees/*/locked # a killed `worktree add` leaves it, and prune would keep that one for ever
git worktree prune --expire=now
git worktree add --quiet --detach --force "$release" {quote(commit)}
cd "$release"
[ ! -f .gitmodules ] || git submodule --quiet update --init --recursive
[ -d {quote(settings.project)} ] || {{ echo "the commit has no folder {settings.project} (project in hosts.toml)"; exit 1; }}
mkdir -p .deploy
cp "$DEPLOY_FILES/gunicorn.conf.py" "$DEPLOY_FILES/gunicorn.json" "$DEPLOY_FILES/release.json" .deploy/
chmod 644 .deploy/*
{links}
""",
        timeout=settings.timeouts.fetch,
    )


def drop(release: Release) -> Step:
    """Remove a release that was never live."""
    return Step("Remove the unfinished release", f"rm -rf {quote(str(release.root))}", timeout=120)


def mark_built(release: Release) -> Step:
    """Say that the release is whole, once the disk has it: a power cut must not leave `current` on empty files."""
    root, mark = quote(str(release.root)), quote(str(release.notes / "built"))
    return Step("Mark the release as whole", f"sync --file-system {root}\ntouch {mark}", timeout=120)


def make_live(layout: Layout, release_id: str) -> str:
    """The bash lines that make a release the live one: a new link beside the old one, and one rename."""
    current = quote(str(layout.current))
    return f"""
ln -sfn {quote(f"releases/{release_id}")} {current}.new
mv -T {current}.new {current}
"""


def mark_good(layout: Layout, release: Release, leaves: Release | None = None) -> Step:
    """Say that the release is live and healthy, with its files; `leaves` is the one that a rollback went back from."""
    notes = quote(str(release.notes))
    left = f"touch {quote(str(leaves.notes / 'left'))}\n" if leaves else ""
    return Step(
        "Mark the release as good",
        f"{left}touch {notes}/good\nrm -f {notes}/bad {notes}/left {layout.staged}/*.pending",
        live=True,
    )


def record(layout: Layout, entry: str) -> Step:
    """Append one line of JSON to the host's history, also after half a line of a run that was cut."""
    history = quote(str(layout.history))
    return Step(
        "Record the deploy",
        f"""[ -z "$(tail -c 1 {history} 2>/dev/null || true)" ] || echo >>{history}
printf '%s\\n' {quote(entry)} >>{history}
""",
    )


def prune(layout: Layout, settings: Settings) -> Step:
    """Remove old and half-made releases, except the live one, the newest that failed, and what a process still uses.

    Kept are the newest `keep` good ones, and as many that a rollback may go to, should it have left some of the newest.
    The folders are renamed under the lock, and deleted without it.
    """
    return Step(
        "Prune old releases",
        f"""{GIT}
cd {quote(str(layout.releases))}
live=$(readlink -e {quote(str(layout.current))} || true); live=${{live##*/}}
used=" $live $( (readlink /proc/[0-9]*/cwd /proc/[0-9]*/exe 2>/dev/null || true) |
  sed -n 's#^{layout.releases}/\\([^/]*\\).*#\\1#p' | sort -u | tr '\\n' ' ')"
master=$(sed -n 's/.*"release": *"\\([^"]*\\)".*/\\1/p' {quote(str(layout.state / "master.json"))} 2>/dev/null || true)
used="$used ${{master##*/}} "
newest=0 ways_back=0 failed=0
for folder in $(printf '%s\\n' [0-9]*T[0-9]*Z-[0-9a-f]* | sort -r); do
  [ -d "$folder" ] || continue
  if [ -e "$folder/.deploy/bad" ] && [ "$failed" = 0 ]; then failed=1; continue; fi
  if [ -e "$folder/.deploy/good" ]; then
    newest=$((newest + 1))
    [ -e "$folder/.deploy/left" ] || ways_back=$((ways_back + 1))
    [ "$newest" -gt {settings.keep} ] || continue
    [ -e "$folder/.deploy/left" ] || [ "$ways_back" -gt {settings.keep} ] || continue
  fi
  case $used in *" $folder "*) continue ;; esac
  mv -T "$folder" ".trash-$folder"
done
git -C {quote(str(layout.repo))} worktree prune --expire=now || true
cd {quote(str(layout.kept_static))}
mkdir -p .lists
lists=$(find .lists -type f -printf '%f\\n' | sort -r | tail -n +{settings.keep_static + 1})
if [ -n "$lists" ]; then
  for list in $lists; do rm -f ".lists/$list"; done
  find . -type f -not -path './.lists/*' | sed 's#^./##' | sort | comm -23 - <(sort -u .lists/*) | tr '\\n' '\\0' | xargs -0 -r rm -f
fi
{sweep(layout)}""",
        timeout=120,
    )
