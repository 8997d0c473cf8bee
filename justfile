# Arguments reach the shell as "$1", "$2"..., never as text of a command.
set positional-arguments

# Else Python compiles every module anew for each of the many runs of `fab` under test.
export PYTHONDONTWRITEBYTECODE := ""

# List the recipes
default:
    @"{{ just_executable() }}" --list --unsorted

# Put a branch (of hosts.toml, unless given) live on a host or an environment
ansible-deploy ENV BRANCH="" DOPPLER_CONFIG="":
    @uv run fab --hosts="$1" deploy ${2:+--branch="$2"} ${3:+--doppler-config="$3"}

# The same, and every step runs even when nothing changed
ansible-deploy-force ENV BRANCH="" DOPPLER_CONFIG="":
    @uv run fab --hosts="$1" deploy --force ${2:+--branch="$2"} ${3:+--doppler-config="$3"}

# Make a bare server ready for deploys
ansible-setup ENV DOPPLER_CONFIG="":
    @uv run fab --hosts="$1" provision ${2:+--doppler-config="$2"}

# Check hosts.toml, the templates and the code, without a connection
ansible-check:
    @uv run invoke check

# Show the end of the service's journal
server-logs ENV DOPPLER_CONFIG="" LINES="":
    @uv run fab --hosts="$1" logs ${2:+--doppler-config="$2"} ${3:+--lines="$3"}

# Show what is live, and whether it is healthy
server-status ENV DOPPLER_CONFIG="":
    @uv run fab --hosts="$1" status ${2:+--doppler-config="$2"}

# Lint, types and every test, on real lab hosts too (half an hour and more); or only the tests named, and nothing else
test *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    if [ $# -gt 0 ]; then exec uv run pytest "$@"; fi
    "{{ just_executable() }}" lint
    failed=0
    uv run coverage erase
    uv run coverage run -m pytest --numprocesses=6 tests/unit tests/host || failed=1
    # These measure how long visitors wait: last, and beside few others.
    timed=(tests/lab/test_changes.py tests/lab/test_switch.py tests/gunicorn)
    uv run pytest --numprocesses=4 "${timed[@]/#/--ignore=}" tests/lab || failed=1
    uv run pytest --numprocesses=3 "${timed[@]}" || failed=1
    uv run coverage combine --quiet
    echo "coverage without the lab: $(uv run coverage report --format=total) %"
    exit $failed

# The tests that need neither root nor a lab (a few minutes)
unit *ARGS:
    @uv run pytest --numprocesses=6 tests/unit tests/host "$@"

# Lint, check the format, check the types
lint:
    @uv run ruff check
    @uv run ruff format --check
    @uv run ty check

# Measure what visitors notice of every kind of change, on a lab host of its own (about 15 minutes; --help)
load *ARGS:
    @uv run python -m testbed.load "$@"

# Break every step of every change in every way and see that the site stays whole (hours; a part: --help)
faults *ARGS:
    @uv run python -m testbed.faults "$@"

# Deploy and roll back many times (200) under light load, with faults now and then, and see that nothing grows
soak *ARGS:
    @uv run python -m testbed.soak "$@"

# Take the playbook's server over, deploy, give it back, under visitors, on both Debians (--cuts: each step cut; --help)
takeover *ARGS:
    @uv run python -m testbed.takeover "$@"

# Measure a deploy beside a bare script, pyinfra and Ansible, at several round trips (hours; a part: --help)
bench *ARGS:
    @uv run python -m testbed.bench "$@"

# Take repositories of other shapes from nothing to a rollback, as a transcript with times
shapes *ARGS:
    @uv run python -m testbed.shapes "$@"
