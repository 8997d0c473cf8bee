"""The service: unit files installed, gunicorn brought to life, its workers told apart."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from shlex import quote

from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.steps.release import make_live
from fabfile.steps.step import Step

SYSTEMCTL = "/usr/bin/systemctl"
INSTALL = "/usr/bin/install -m 644 -o root -g root"

# There when this run has staged files: what an earlier run has kept is not what is to come back.
STAGED = "$DEPLOY_WORK/staged"
# There when an earlier run was cut with files installed that are not in use: the way back cannot put those right.
WAS_PENDING = "$DEPLOY_WORK/was_pending"

# When the service has stopped so many times in a row, or each of its workers while it booted, it is no accident, and to
# wait on would help nobody. The proof has shown that the code boots: this is what only the unit forbids, as its sandbox.
ENOUGH = 3

# sudo -n never asks; its refusal gets the command that mends it.
SUDO = """
as_root() {
  sudo -n "$@" 2>"$DEPLOY_WORK/sudo" || { code=$?; cat "$DEPLOY_WORK/sudo" >&2
    ! grep -q -e 'password is required' -e 'not allowed' -e 'may not run' "$DEPLOY_WORK/sudo" ||
      echo "this user may not run that as root; the tool installs the right when you run: provision" >&2
    return "$code"; }
}
"""


def staged(layout: Layout, target: PurePosixPath) -> PurePosixPath:
    """Where the rendered text of `target` waits to be installed."""
    return layout.staged / target.name


def install(layout: Layout, targets: Sequence[PurePosixPath]) -> str:
    """The bash lines that install staged files over `targets`, each only if it differs."""
    return "\n".join(
        f"cmp -s {quote(str(staged(layout, target)))} {quote(str(target))} || "
        f"as_root {INSTALL} {quote(str(staged(layout, target)))} {quote(str(target))}"
        for target in targets
    )


def stage(layout: Layout, targets: Sequence[PurePosixPath]) -> Step:
    """Put the rendered files (sent to the conductor by name) in place to be installed; keep what is installed now.

    Until the end of the run each is marked as pending: after a run that was cut, it counts as one that differs, for it
    may be installed, but in use it is not.
    """
    lines = []
    for target in targets:
        place = quote(str(staged(layout, target)))
        lines.append(
            f"if [ -e {quote(str(target))} ]; then cp {quote(str(target))} {place}.before; else rm -f {place}.before; fi"
        )
        lines.append(f'[ ! -e {place}.pending ] || touch "{WAS_PENDING}"; touch {place}.pending')
        lines.append(f'cp "$DEPLOY_FILES/{target.name}" {place}.new; chmod 644 {place}.new; mv {place}.new {place}')
    lines.append(f'touch "{STAGED}"')
    return Step("Stage the changed files", "\n".join(lines))


def ask_for_rights(layout: Layout, targets: Sequence[PurePosixPath], kind: str) -> Step:
    """See that sudo allows all that is to come, before anything changes."""
    commands = [f"{INSTALL} {staged(layout, target)} {target}" for target in targets]
    if layout.site_file in targets:
        commands += ["/usr/sbin/nginx -t -q", f"{SYSTEMCTL} reload nginx.service"]
    if {layout.service_file, layout.socket_file}.intersection(targets):
        commands.append(f"{SYSTEMCTL} daemon-reload")
    if kind in ("restart", "start"):
        commands.append(f"{SYSTEMCTL} restart {layout.unit}.service")
    lines = "\n".join(
        f'sudo -n -l {command} >/dev/null 2>&1 || {{ echo "$(id -un) may not run this as root: {command}"; denied=1; }}'
        for command in commands
    )
    return Step("Ask sudo for the rights it needs", f'denied=0\n{lines}\nexit "$denied"\n')


def install_units(layout: Layout, targets: Sequence[PurePosixPath]) -> Step:
    return Step(
        "Install the unit files",
        f"{SUDO}\n{install(layout, targets)}\nas_root {SYSTEMCTL} daemon-reload\n",
        live=True,
    )


def restore(layout: Layout, targets: Sequence[PurePosixPath]) -> str:
    """The bash lines that bring back what `stage` kept."""
    lines = []
    for target in targets:
        place = quote(str(staged(layout, target)))
        lines.append(f"if [ -e {place}.before ]; then cp {place}.before {place}; fi")
    return "\n".join([*lines, install(layout, targets)])


def activate(layout: Layout, kind: str) -> Step:
    """Bring the live link's release to life: `hup`, `restart` or `start`."""
    titles = {
        "hup": "Reload gunicorn (HUP)",
        "restart": "Restart gunicorn behind its socket",
        "start": "Start gunicorn",
    }
    return Step(titles[kind], bring_to_life(layout, kind), timeout=120, live=True)


def switch(layout: Layout, release: Release, kind: str) -> Step:
    """Make `release` the live one and bring it to life, as `activate` does.

    One step, which ends what it has begun: were it two, a conductor that is killed between them would leave a link to
    one release and workers of another.
    """
    titles = {"hup": "HUP", "restart": "restart", "start": "start"}
    script = make_live(layout, release.id) + bring_to_life(layout, kind)
    return Step(f"Switch to the new release ({titles[kind]})", script, timeout=120, live=True)


def bring_to_life(layout: Layout, kind: str) -> str:
    """The bash lines of an activation, with what `wait_for_workers` needs to know of before."""
    return f"""
{{ read -r master <{quote(str(layout.pid_file))} && pgrep -P "$master"; }} >"$DEPLOY_WORK/old_workers" 2>/dev/null || true
{SUDO}
{_give_life(layout, kind)}
{_starts(layout)} >"$DEPLOY_WORK/starts" || true
"""


def _starts(layout: Layout) -> str:
    """How often systemd has started the service again since somebody started it."""
    return f"systemctl show --property NRestarts --value {layout.unit}.service"


def _give_life(layout: Layout, kind: str) -> str:
    """HUP goes to the master itself: same user, no root, no signal lost (facts 9)."""
    unit, socket = f"{layout.unit}.service", f"{layout.unit}.socket"
    restart = f"as_root {SYSTEMCTL} restart {unit}"
    if kind == "hup":  # without a master, systemd is about to start one, and that one begins with the live link
        return f"""
kill -HUP "$(cat {quote(str(layout.pid_file))} 2>/dev/null || echo no)" 2>/dev/null || case $(systemctl is-active {unit} || true) in
  active | activating) echo "gunicorn has no master: systemd starts one" ;;
  *) {restart} ;;
esac
"""
    if kind == "restart":
        return restart
    return f"systemctl is-active --quiet {socket} || as_root {SYSTEMCTL} restart {socket}\n{restart}"


def settled(layout: Layout, release: Release, settings: Settings) -> Step:
    """Wait until workers of `release`, and only those, answer: told by PIDs and their folders, not by time."""
    return Step(
        "See only new workers answer",
        wait_for_workers(layout, release, settings),
        timeout=settings.timeouts.reload + 30,
        live=True,
    )


def wait_for_workers(layout: Layout, release: Release, settings: Settings) -> str:
    """The bash lines that wait for a finished activation: nobody but booted workers of the release is there.

    Old workers leave when the new ones are healthy; new ones that are not end the wait long before gunicorn.conf.py
    would let them take over. Without old ones (a restart) they serve as soon as they can, and the check that comes
    next waits for their health. While there is nothing to see yet, no program is started to look: the CPU belongs to
    the workers that boot.
    """
    state, limit = quote(str(layout.state)), settings.timeouts.reload
    patience = min(settings.timeouts.health, limit // 2)
    return f"""
begin=$SECONDS end=$((SECONDS + {limit})) problem='nothing was seen' wanted=1 failures=0
looked=$((SECONDS + 2)) # by then, what was counted before this activation is cleared
mapfile -t old <"$DEPLOY_WORK/old_workers"
settled() {{
  {{ read -r master <{state}/gunicorn.pid; }} 2>/dev/null && kill -0 "$master" 2>/dev/null || {{ problem='gunicorn has no master'; return 1; }}
  for pid in "${{old[@]}}"; do
    ! kill -0 "$pid" 2>/dev/null || {{ problem="worker $pid of before still serves"; return 1; }}
  done
  {{ mapfile -t lines <{state}/master.json; }} 2>/dev/null
  [[ ! ${{lines[*]}} =~ '"workers": '([0-9]+) ]] || wanted=${{BASH_REMATCH[1]}}
  marks=({state}/up/*)
  [ -e "${{marks[0]}}" ] && [ "${{#marks[@]}}" -ge "$wanted" ] || {{ problem="not all of $wanted workers have booted"; return 1; }}
  ready=0
  for pid in $(pgrep -P "$master"); do
    grep -q "\\"pid\\": ${{pid}}[,}}]" "${{marks[@]}}" 2>/dev/null || {{ problem="worker $pid has not booted"; return 1; }}
    cwd=$(readlink "/proc/$pid/cwd") || return 1
    case $cwd/ in
      {quote(str(release.root))}/*) ready=$((ready + 1)) ;;
      *) problem="worker $pid serves $cwd"; return 1 ;;
    esac
  done
  [ "$ready" -ge "$wanted" ] || {{ problem="$ready of $wanted workers are up"; return 1; }}
}}
ill() {{
  [ "$SECONDS" -ge "$((begin + {patience}))" ] || return 1
  for file in {state}/up/*; do
    {{ mapfile -t lines <"$file"; }} 2>/dev/null && [[ ${{lines[*]}} =~ '"healthy": false'.*'"pid": '([0-9]+).*'"status": '([a-z0-9]+) ]] || continue
    [[ " ${{old[*]}} " != *" ${{BASH_REMATCH[1]}} "* ]] || continue
    problem="worker ${{BASH_REMATCH[1]}}: {settings.health_path} answers ${{BASH_REMATCH[2]}}"
    return 0
  done
  return 1
}}
hopeless() {{
  [ "$SECONDS" -gt "$looked" ] || return 1
  looked=$SECONDS
  case $problem in
    *" of before still serves") ! ill || return 0 ;;&
    *master) starts=$({_starts(layout)}) && read -r first <"$DEPLOY_WORK/starts" || return 1
      [ "$((starts - first))" -ge {ENOUGH} ] && problem="gunicorn has stopped {ENOUGH} times in a row" ;;
    *) {{ read -r failures <{state}/failures; }} 2>/dev/null || true
      [ "$failures" -ge "$((wanted * {ENOUGH}))" ] && problem="$failures workers in a row have died while they booted" ;;
  esac
}}
until settled; do
  if [ "$SECONDS" -ge "$end" ] || hopeless; then
    journalctl --unit {layout.unit} --lines 40 --no-pager --output cat 2>/dev/null || true
    echo "after $((SECONDS - begin)) s: $problem" # last: of a long output a person sees the end
    exit 1
  fi
  sleep 0.05
done
"""


def check_site(layout: Layout, settings: Settings) -> Step:
    """The four checks from inside the host, in order; the first that fails is named: `failed CHECK`."""
    lines = check_lines(layout, settings, wait=settings.timeouts.health)
    return Step("Check the site", lines + 'exit "$failed"\n', timeout=settings.timeouts.health + 20, live=True)


def look_at_site(layout: Layout, settings: Settings) -> Step:
    """The same checks once, without waiting; the step itself does not fail."""
    return Step("Look at the site", f'(\n{check_lines(layout, settings, wait=0)}exit "$failed"\n) || true\n')


def check_lines(layout: Layout, settings: Settings, wait: int) -> str:
    """The bash lines of the checks, which answer `check NAME ok|failed DETAIL` each; health may take `wait` seconds."""
    return f"""
failed=0
check() {{ if [ "$2" = ok ]; then echo "check $1 ok"; else echo "check $1 failed $2"; failed=1; fi; }}
ask() {{
  curl --silent --output /dev/null --write-out '%{{http_code}}' --max-time 10 \\
    --header {quote("Host: " + settings.domain)} --header 'X-Forwarded-Proto: https' "$@" || true
}}
end=$((SECONDS + {wait}))
until [ "$(ask {quote("http://127.0.0.1" + settings.health_path)})" = 200 ] || [ "$SECONDS" -ge "$end" ]; do sleep 0.2; done
mapfile -t active < <(systemctl is-active {layout.unit}.service nginx.service || true)
if [ -S {quote(str(layout.socket))} ]; then
  answer=$(ask --unix-socket {quote(str(layout.socket))} {quote("http://127.0.0.1" + settings.health_path)})
  [ "$answer" = 000 ] && check gunicorn_socket "nobody answers at {layout.socket}" || check gunicorn_socket ok
else check gunicorn_socket "{layout.socket} is missing"; fi
[ "${{active[0]:-}}" = active ] && check systemd_active ok || check systemd_active "{layout.unit} is ${{active[0]:-}}"
[ "${{active[1]:-}}" = active ] && check nginx_running ok || check nginx_running "nginx is ${{active[1]:-}}"
# Another worker may answer now, one that needs a moment more.
until answer=$(ask {quote("http://127.0.0.1" + settings.health_path)}); [ "$answer" = 200 ] || [ "$SECONDS" -ge "$end" ]; do sleep 0.2; done
[ "$answer" = 200 ] && check http_200 ok || check http_200 "{settings.health_path} answers $answer"
"""
