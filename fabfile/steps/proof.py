"""The proof: the new release's own gunicorn with its real secrets on a private socket, before anyone sees it."""

from pathlib import Path
from shlex import quote

from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.steps.django import doppler_run, secrets
from fabfile.steps.step import Step

COMPARE = (Path(__file__).parents[1] / "host/programs/compare_masters.py").read_text()

# The conductor's work folder goes with the conductor, and so does every process group whose leader stands in a *.pid file
# there. For a conductor that was killed, the group has a member that watches it.
WATCHED = """'(while kill -0 "$DEPLOY_CONDUCTOR" 2>/dev/null; do sleep 1; done; kill -KILL 0) & exec "$@"'"""
PROOF = "proof=$DEPLOY_WORK/proof"


def start(layout: Layout, release: Release, settings: Settings) -> Step:
    """Begin to boot the release; `booted` waits for it, so that it boots while static files are collected."""
    limit = settings.timeouts.boot + settings.timeouts.collectstatic + settings.timeouts.migrate + 120
    gunicorn = " ".join(
        [
            f"{quote(str(release.python))} -m gunicorn --config {quote(str(release.notes / 'gunicorn.conf.py'))}",
            f"--chdir {quote(str(release.project))} --workers 1",
            '--bind "unix:$proof/sock" --pid "$proof/gunicorn.pid"',
            quote(settings.wsgi),
        ]
    )
    return Step(
        "Start the new release on a private socket",
        f"""{PROOF}
mkdir -m 700 "$proof"
{secrets(layout)}
cd {quote(str(release.project))}
export RUNTIME_DIRECTORY=$proof DEPLOY_PROOF=1 DEPLOY_LIVE_MASTER={quote(str(layout.state / "master.json"))}
setsid bash --norc -c {WATCHED} - timeout --kill-after=5 {limit} {doppler_run(settings)} {gunicorn} </dev/null >"$proof/log" 2>&1 9>&- &
echo $! >"$DEPLOY_WORK/proof.pid"
""",
    )


def booted(settings: Settings) -> Step:
    """Wait until the private gunicorn has loaded the app; its log is the evidence if it does not."""
    return Step(
        "Prove that it boots",
        f"""{PROOF}
end=$((SECONDS + {settings.timeouts.boot}))
read -r leader <"$DEPLOY_WORK/proof.pid"
until marks=("$proof"/up/[0-9]*) && [ -e "${{marks[0]}}" ] && [ -s "$proof/master.json" ]; do
  kill -0 "$leader" 2>/dev/null || {{ cat "$proof/log"; exit 1; }}
  [ "$SECONDS" -lt "$end" ] || {{ cat "$proof/log"; echo "it did not boot within {settings.timeouts.boot} s"; exit 1; }}
  sleep 0.05
done
""",
        timeout=settings.timeouts.boot + 10,
    )


def compare(layout: Layout, release: Release) -> Step:
    """Answer with one line of JSON: what differs between the running master and the proof's, for `activation.choose`."""
    arguments = f'{quote(str(layout.state / "master.json"))} "$proof/master.json"'
    return Step(
        "Compare it with the running gunicorn",
        f"{PROOF}\n{quote(str(release.python))} -c {quote(COMPARE)} {arguments}\n",
    )


def healthy(settings: Settings) -> Step:
    """Ask the release for its health on the private socket, as nginx would ask it.

    503 says "not yet" (RFC 9110, 15.6.4) and is asked again for `timeouts.health` seconds; another, three times.
    """
    host = quote(f"Host: {settings.domain}")
    return Step(
        "Prove that it is healthy",
        f"""{PROOF}
ask() {{
  curl --silent --show-error --max-time {settings.timeouts.health} --output "$proof/answer" --write-out '%{{http_code}}' \\
    --unix-socket "$proof/sock" --header {host} --header 'X-Forwarded-Proto: https' \\
    --header 'X-Forwarded-For: 127.0.0.1' {quote("http://localhost" + settings.health_path)} || true
}}
tries=1 end=$((SECONDS + {settings.timeouts.health}))
while status=$(ask); [ "$status" != 200 ] && [ "$SECONDS" -lt "$end" ]; do
  [ "$status" = 503 ] || [ "$tries" -lt 3 ] || break
  tries=$((tries + 1))
  sleep 0.5
done
if [ "$status" != 200 ]; then
  echo "{settings.health_path} answered $status, not 200:"
  head -c 2000 "$proof/answer" 2>/dev/null || true
  echo; echo "its log:"; tail -n 40 "$proof/log"
  exit 1
fi
""",
        timeout=2 * settings.timeouts.health + 10,
    )


def stop() -> Step:
    """End the proof with all its children, at once: nobody else ever spoke to it."""
    return Step(
        "Stop the private socket",
        """
leader=$(cat "$DEPLOY_WORK/proof.pid" 2>/dev/null || true)
if [ -n "$leader" ]; then
  kill -KILL -- "-$leader" 2>/dev/null || true
  while kill -0 -- "-$leader" 2>/dev/null; do sleep 0.02; done
fi
rm -rf "$DEPLOY_WORK/proof" "$DEPLOY_WORK/proof.pid"
""",
    )
