"""Whoever has the key of `deploy` plays every way to root there is, on a real host; none gets beyond `deploy`."""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess, run

import pytest

from testbed.harness import Site, wait_for
from testbed.lab import execute, ssh_command
from tests.lab.test_processes import with_everything

pytestmark = pytest.mark.lab

# Where the attacker keeps what is to be run, and where it says as whom: there the app's processes may write, too.
HERE, SAID = "/srv/consult/attack", "/srv/consult/shared/said"
PAYLOAD = f"{HERE}/payload"
UNIT = "/etc/systemd/system/consult-django.service"
INSTALL = "/usr/local/lib/consult-files.sh /etc/consult/staged"
CANARY = "c4nary-of-root"  # in files that root alone may read
# The tool's own files of root, whose text a deploy may change: between texts that root has staged.
OURS = (
    r"/etc/consult/staged/.*|/etc/systemd/system/consult-[a-z]+@?\.(service|socket|timer)"
    r"|/etc/nginx/sites-available/consult-django"
)
LOOK = f"""
find /etc /usr/local /root /var/spool/cron /opt/victim -printf '%p %U %G %m %y %l\\n'
find /etc /usr/local /root /var/spool/cron /opt/victim -regextype posix-extended -type f -not -regex '{OURS}' \
    -exec sha256sum {{}} +
find /srv/consult /home/deploy /var/lib/consult-* -not -user deploy
grep -l '{HERE}' -r /etc /usr/local
grep -rlF {CANARY} --exclude-dir=.venv --exclude-dir=cache /srv/consult /home/deploy /tmp /var/tmp /run \
    /var/lib/consult-*
grep -L ^User=deploy /etc/systemd/system/consult-*.service
true"""
PREPARE = f"""
mkdir -p {HERE}/bin
printf '#!/bin/sh\\nid -u >>{SAID}\\n' >{PAYLOAD}
chmod 755 {PAYLOAD}
for name in cp cmp mv find nginx systemctl; do ln -s {PAYLOAD} {HERE}/bin/$name; done
echo 'import subprocess; subprocess.call(["{PAYLOAD}"])' >{HERE}/sitecustomize.py
echo {PAYLOAD} >{HERE}/env
touch {SAID}
chmod 666 {SAID}
"""
ROOTS = f"""
mkdir -m 700 -p /opt/victim/folder
echo {CANARY} | install -m 600 /dev/stdin /opt/victim/file
echo {CANARY} | install -m 600 /dev/stdin /root/canary
usermod --password {CANARY} games
useradd --system other
install -d -o other /srv/other /srv/other/shared
install -d -g other -m 750 /etc/other
echo OTHERS=1 | install -o other -m 600 /dev/stdin /etc/other/doppler.env
"""


@pytest.fixture(scope="module")
def site(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample site with its workers, on a host where root has something to lose, and so has another app."""
    with with_everything(own("attacker"), tmp_path_factory.mktemp("attacker"), "t/attacker", base) as site:
        site.run(ROOTS)
        must(site, PREPARE)
        yield site


@pytest.fixture(autouse=True)
def guard(site: Site) -> Iterator[None]:
    """Afterwards root's files are what they were, none was shown, and whatever ran was `deploy`'s."""
    before = site.run(LOOK)
    yield
    after = site.run(LOOK)
    assert sorted(set(after.splitlines()) ^ set(before.splitlines())) == []
    assert said(site) <= {uid(site)}


def deploy(site: Site, script: str) -> CompletedProcess[str]:
    """What `deploy` does on the host."""
    return execute(site.host, "runuser", "-u", "deploy", "--", "bash", "-c", script, timeout=180)


def must(site: Site, script: str) -> str:
    """The same, which has to go well."""
    done = deploy(site, f"set -eu\n{script}")
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def by_ssh(site: Site, command: str) -> CompletedProcess[str]:
    """What `deploy` does over SSH."""
    *words, _ = ssh_command(site.host)
    return run(
        [*words, f"deploy@{site.host.address}", command], capture_output=True, text=True, timeout=60, check=False
    )


def uid(site: Site) -> str:
    return site.run("id -u deploy").strip()


def said(site: Site) -> set[str]:
    """As whom the payload has run since this was last asked."""
    return set(site.run(f"cat {SAID}; : >{SAID}").split())


def sprung(site: Site) -> None:
    """See that the payload has run, as `deploy` and as nobody else."""
    assert said(site) == {uid(site)}


@contextmanager
def planted(site: Site, trap: str, undo: str) -> Generator[None]:
    """What `deploy` has put somewhere meanwhile."""
    must(site, trap)
    try:
        yield
    finally:
        must(site, undo)


def refused(site: Site, commands: str) -> None:
    """See that each of some commands, a line each, fails for `deploy`."""
    wanted = [line.strip() for line in f"{commands.strip()}\ntrue".splitlines()]
    tries = (f"( {line} ) </dev/null >/dev/null 2>&1 && echo 'well: {at}'" for at, line in enumerate(wanted))
    went_well = re.findall(r"well: (\d+)", deploy(site, "\n".join(tries)).stdout)
    assert [wanted[int(at)] for at in went_well] == ["true"]


def commands(site: Site) -> list[str]:
    """What sudo lets `deploy` run as root, in an order that leaves the site running."""
    found = re.findall(r"NOPASSWD: (.*)", deploy(site, "sudo -n -l").stdout)
    assert len(found) == 8
    return sorted(found, key=lambda command: (" restart " in command, ".service" in command))


def tool(site: Site, *words: str) -> None:
    """A deploy of a new commit, a rollback, a provision, and a look; how they end is not asked."""
    site.commit(site.titled("Next"))
    for result in (site.deploy(*words), site.fab("rollback", "--json"), site.provision(), site.fab("status", "--json")):
        assert CANARY not in result.text


def test_deploy_can_write_only_what_is_its_own(site: Site) -> None:
    """No unit, drop-in, site, hook of certbot, cron table, program or file of sudo is where `deploy` may write."""
    places = "/ /run /tmp /dev/shm /var/spool /usr /etc"
    found = deploy(site, f"find {places} -xdev -not -type l -not -type c -writable 2>/dev/null").stdout.split()
    own = r"/(srv/consult|home/deploy|tmp|var/tmp|run/lock|dev/shm|var/lib/consult-\w+|run/consult-django)(/.*)?"
    public = r"/etc/consult/doppler\.env|/run/consult/gunicorn\.sock|/run/(user/\d+|dbus|systemd|postgresql)(/.*)?"
    assert [path for path in found if not re.fullmatch(f"{own}|{public}", path)] == []
    sockets = [path for path in found if path.startswith("/run/systemd")]
    assert site.run(f"find {' '.join(sockets) or '/none'} -maxdepth 0 -not -type s 2>/dev/null; true") == ""


def test_nothing_of_roots_is_written(site: Site) -> None:
    """Neither what is staged, nor units, drop-ins and links to units, nor root's services by D-Bus."""
    refused(
        site,
        f"""
        echo x >>/etc/consult/staged/next{UNIT}
        mv /etc/consult/staged /etc/consult/staged.mine
        ln -s {HERE} /etc/consult/staged.new
        mkdir /etc/consult/staged.new
        rm -rf /etc/consult/staged/before
        mv /etc/consult/doppler.env /etc/consult/other.env
        ln -sf /etc/shadow /etc/consult/doppler.env
        mkdir -p /etc/systemd/system/consult-django.service.d
        mkdir -p /run/systemd/system/consult-django.service.d
        mkdir -p /run/systemd/transient/consult-django.service.d
        mkdir -p /etc/letsencrypt/renewal-hooks/deploy
        touch /var/www/letsencrypt/x
        touch /etc/nginx/conf.d/x.conf
        touch /etc/nginx/modules-enabled/x.conf
        ln -s {HERE}/site /etc/nginx/sites-enabled/x
        systemctl link {HERE}/evil.service
        systemctl enable {HERE}/evil.service
        systemctl set-property consult-django.service MemoryMax=1G
        systemctl set-environment LD_PRELOAD={HERE}/evil.so
        systemctl restart consult-django.service
        systemctl daemon-reload
        systemd-run --collect {PAYLOAD}
        systemd-run --collect --property=User=deploy {PAYLOAD}
        busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager Reload
        pkexec {PAYLOAD}
        su -c {PAYLOAD}
        crontab -u root {HERE}/env
        """,
    )


def test_units_and_sites_of_the_attackers_own_are_read_by_nobody(site: Site) -> None:
    """A unit without User=, and nginx's directives, where `deploy` can leave them: no command of root's takes them."""
    trap = f"""
    mkdir -p ~/.config/systemd/user/consult-django.service.d /srv/consult/staged/next/etc/systemd/system ~/.config/nginx
    printf '[Service]\\nExecStartPre=+{PAYLOAD}\\n' | tee ~/.config/systemd/user/consult-django.service.d/x.conf \
        >/srv/consult/staged/consult-django.service
    printf 'error_log /etc/cron.d/x;\\nload_module {HERE}/evil.so;\\n' | tee ~/.config/nginx/x.conf \
        >/srv/consult/staged/consult-django
    cp /srv/consult/staged/consult-django* /srv/consult/staged/next/etc/systemd/system
    """
    with planted(site, trap, "rm -rf ~/.config /srv/consult/staged"):
        for command in commands(site):
            must(site, f"sudo -n {command}")
        site.settings["unit_options"] = {"MemoryMax": "900M"}
        site.deploy().expect(0)
        assert site.run("ls /srv/consult").split().count("staged") == 0
    assert "MemoryMax=900M" in site.run(f"cat {UNIT}")
    site.settings.pop("unit_options")
    site.deploy().expect(0)
    assert said(site) == set()


@pytest.mark.parametrize(("target", "limit"), [("/etc/shadow", "910M"), ("/opt/victim/folder/new", "911M")])
def test_marks_that_are_links(site: Site, target: str, limit: str) -> None:
    """Links in `pending`, and a link in its place: root follows none, and what `deploy` follows is `deploy`'s."""
    trap = f"""
    mkdir /srv/consult/pending
    ln -s {target} /srv/consult/pending/consult-django.service
    ln -s /opt/victim/folder /srv/consult/staged
    """
    with planted(site, trap, "rm -rf /srv/consult/pending /srv/consult/staged"):
        site.settings["unit_options"] = {"MemoryMax": limit}
        assert "consult-django.service" in site.deploy().expect(5).text  # it cannot mark the file, which is another's
        assert deploy(site, "ls -d /srv/consult/staged").returncode != 0
        must(site, "rm -rf /srv/consult/pending; ln -s /opt/victim /srv/consult/pending")
        assert "/srv/consult/pending" in site.deploy("--overwrite").expect(5).text
    site.settings.pop("unit_options")
    # The marks made root keep another text as the one of before: what is installed passes for edited.
    site.deploy("--overwrite").expect(0)


# What decides what a program does, if it comes with a command of root's, and a command with which it does so here.
ENVIRONMENT = [
    (f"PATH={HERE}/bin:$PATH", "cmp"),
    (f"BASH_ENV={PAYLOAD}", "bash -c true"),
    (f"ENV={PAYLOAD}", "sh -i -c true"),
    (f"'BASH_FUNC_cmp%%=() {{ {PAYLOAD}; }}'", "bash -c cmp"),
    (f"'BASH_FUNC_cd%%=() {{ {PAYLOAD}; }}'", "bash -c 'cd /'"),
    (f"SHELLOPTS=xtrace 'PS4=$({PAYLOAD})'", "bash -c true"),
    (f"PYTHONPATH={HERE}", "python3 -c ''"),
    (f"SYSTEMD_PAGER={PAYLOAD} PAGER={PAYLOAD} SYSTEMD_PAGERSECURE=0", ""),
    (f"SUDO_ASKPASS={PAYLOAD} SUDO_EDITOR={PAYLOAD}", ""),
    (f"LD_PRELOAD={HERE}/evil.so LD_LIBRARY_PATH={HERE} LD_AUDIT={HERE}/evil.so", ""),
    (f"IFS=/ CDPATH={HERE} TMPDIR={HERE} BASHOPTS=extdebug GLOBIGNORE='*' NGINX=3 HOME={HERE}", ""),
]


def test_the_environment_of_sudo(site: Site) -> None:
    """What runs the payload for `deploy` runs it for no command that sudo allows; nor may the environment be kept."""
    for words, control in ENVIRONMENT:
        if control:
            deploy(site, f"env {words} {control} </dev/null")
            sprung(site)
    assert "evil.so" in deploy(site, f"LD_PRELOAD={HERE}/evil.so /bin/true").stderr
    everything_set = " ".join(words for words, _ in ENVIRONMENT)
    for command in commands(site):
        done = deploy(site, f"cd {HERE}/bin; env {everything_set} /usr/bin/sudo -n {command}")
        assert (done.returncode, "evil.so" in done.stderr) == (0, False), done.stderr
        assert said(site) == set(), command
        refused(
            site, f"env {everything_set} /usr/bin/sudo -n -E {command}\nsudo -n LD_PRELOAD={HERE}/evil.so {command}"
        )


def test_other_words_for_sudo(site: Site) -> None:
    """Not one word more or less, no other user, folder or editor."""
    refused(
        site,
        f"""
        sudo -n {INSTALL}
        sudo -n {INSTALL} next before
        sudo -n {INSTALL} ../../../srv/consult/attack
        sudo -n {INSTALL} .
        sudo -n /usr/local/lib/consult-files.sh {HERE} next
        sudo -n /usr/local/lib/consult-files.sh /etc/consult/staged/../staged next
        sudo -n bash {INSTALL} next
        cp /usr/local/lib/consult-files.sh {HERE}; sudo -n {HERE}/consult-files.sh /etc/consult/staged next
        cd /usr/local/lib; sudo -n ./consult-files.sh /etc/consult/staged/ next
        sudo -n -u www-data {INSTALL} next
        sudo -n -u other {INSTALL} next
        sudo -n -g root {INSTALL} next
        sudo -n -D {HERE} {INSTALL} next
        sudo -n -R {HERE} {INSTALL} next
        sudo -n -s
        sudo -n -i
        sudo -n -e /etc/consult/staged/next{UNIT}
        sudoedit -n {UNIT}
        sudo -n /usr/bin/systemctl restart consult-django.service ssh.service
        sudo -n /usr/bin/systemctl restart consult-django
        sudo -n /usr/bin/systemctl --root={HERE} restart consult-django.service
        sudo -n /usr/bin/systemctl edit consult-django.service
        sudo -n /usr/bin/systemctl link {HERE}/evil.service
        sudo -n /usr/bin/systemctl start consult-processes.service evil.service
        sudo -n /usr/bin/systemctl daemon-reload
        sudo -n /usr/sbin/nginx
        sudo -n /usr/sbin/nginx -t -q -c {HERE}/site
        sudo -n /usr/sbin/nginx -t -q -g 'error_log /etc/cron.d/x;'
        sudo -n /usr/sbin/nginx -t -q -p {HERE}
        sudo -n /usr/bin/install -m 644 -o root -g root /srv/consult/staged/consult-django.service {UNIT}
        """,
    )
    assert said(site) == set()


def test_a_race_with_what_root_installs(site: Site) -> None:
    """Installed to and fro while all that `deploy` may write is swapped: it is one of root's two texts each time."""
    site.settings["unit_options"] = {"MemoryMax": "902M"}
    site.provision().expect(0)
    texts = set(site.run(f"sha256sum /etc/consult/staged/{{next,before}}{UNIT} | cut -d ' ' -f 1").split())
    assert len(texts) == 2
    seen = must(
        site,
        f"""
        mkdir -p {HERE}/here; cd {HERE}/here
        touch -- -c --reference=x next before './--help' '-exec'
        ln -sfn /etc/consult/staged ~/staged
        while :; do
            for target in /etc /opt/victim {HERE} /srv/consult/releases; do
                ln -sfn $target /srv/consult/staged; ln -sfn $target /srv/consult/pending; ln -sfn $target next
            done
        done & swapping=$!
        for round in 1 2 3 4 5 6 7 8; do
            sudo -n {INSTALL} next; sha256sum {UNIT}
            sudo -n {INSTALL} before; sha256sum {UNIT}
        done
        kill $swapping
        """,
    )
    assert set(re.findall(r"^\w{64}", seen, re.MULTILINE)) == texts
    must(site, f"rm -rf {HERE}/here ~/staged /srv/consult/staged /srv/consult/pending")
    site.settings.pop("unit_options")
    site.deploy().expect(0)
    site.provision().expect(0)


def test_git(site: Site) -> None:
    """Hooks, settings and filters of the mirror, and the user's own: they run as `deploy`, in a provision too."""
    trap = f"""
    cd /srv/consult/repo.git; cp -a config {HERE}/config; mkdir -p hooks info
    for name in post-checkout reference-transaction post-index-change; do ln -sfn {PAYLOAD} hooks/$name; done
    git config core.fsmonitor {PAYLOAD}
    git config core.pager {PAYLOAD}
    git config core.sshCommand {PAYLOAD}
    git config alias.fetch '!{PAYLOAD}'
    git config filter.x.smudge '{PAYLOAD}; cat'
    echo '*.md filter=x' >info/attributes
    git config protocol.ext.allow always
    """
    undo = f"cd /srv/consult/repo.git; cp {HERE}/config config; rm -rf hooks info/attributes"
    with planted(site, trap, undo):
        site.commit(site.titled("By git") | {"new.md": "filtered"})
        site.deploy()
        sprung(site)
        site.provision()
    site.repository.commit(
        {".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::{PAYLOAD}\n\tupdate = !{PAYLOAD}\n'},
        branch="sub",
        base="main",
    )
    site.deploy(branch="sub")
    trap = f"""
    git config --global protocol.ext.allow always
    git config --global 'url.ext::{PAYLOAD} .insteadOf' git://
    """
    with planted(site, trap, "rm ~/.gitconfig"):
        said(site)
        site.provision()
        sprung(site)
    site.deploy().expect(0)


def test_uv_and_pythons(site: Site) -> None:
    """A Python, settings and a cache of the attacker's, and a build hook: root runs none of them."""
    trap = f"""
    mkdir -p ~/.config/uv /srv/consult/python/cpython-3.11.9-linux-x86_64-gnu/bin ~/.local/bin
    printf 'cache-dir = "{HERE}/cache"\\npython-preference = "managed"\\n' >~/.config/uv/uv.toml
    for name in python python3 python3.11; do
        ln -s {PAYLOAD} /srv/consult/python/cpython-3.11.9-linux-x86_64-gnu/bin/$name
        ln -s {PAYLOAD} ~/.local/bin/$name
    done
    ln -s {PAYLOAD} ~/.local/bin/uv
    echo 'export PATH=~/.local/bin:$PATH' | tee ~/.bash_profile >~/.bash_env
    """
    with planted(site, trap, "rm -rf ~/.config ~/.local ~/.bash_profile ~/.bash_env /srv/consult/python/*"):
        tool(site, "--force")  # else there is nothing to install, and no Python to look for
        sprung(site)
    backend = f'import subprocess; subprocess.call(["{PAYLOAD}"])\n'
    project = site.repository.read("packages/greeting/pyproject.toml")
    project = re.sub(r"\[build-system\][^\[]*", "", project)
    project += '\n[build-system]\nrequires = []\nbuild-backend = "evil"\nbackend-path = ["."]\n'
    changes = {"packages/greeting/evil.py": backend, "packages/greeting/pyproject.toml": project}
    site.repository.commit(changes, branch="hook", base="main")
    assert site.deploy(branch="hook").code != 0
    sprung(site)
    site.deploy().expect(0)


@pytest.mark.parametrize("name", ["-rf x", "%n;$(id)", "a@b.service:1"])
def test_a_live_release_with_an_odd_name(site: Site, name: str) -> None:
    """What root starts and stops for it are the app's own units, and they run as `deploy`."""
    folder = f"'/srv/consult/releases/{name}'"
    trap = f"""
    mkdir -p {folder}/.venv/bin {folder}/.deploy {folder}/apps/web
    ln -s {PAYLOAD} {folder}/.venv/bin/python
    ln -sfn {folder} /srv/consult/current
    """
    with planted(site, trap, f"ln -sfn releases/{site.live()} /srv/consult/current; rm -r {folder}"):
        roots_units(site)
        wait_for(lambda: site.run(f"cat {SAID}"), what=lambda: site.journal()[-2000:])
        sprung(site)
    as_it_was(site)


def test_current_leads_elsewhere(site: Site) -> None:
    """To root's folders, out of the releases, in a circle: units of root's that read it do not take it for more."""
    undo = f"ln -sfn releases/{site.live()} /srv/consult/current"
    for target in ("/etc", "/root", "/opt/victim", "/srv/consult/releases/..", "current"):
        with planted(site, f"ln -sfn {target} /srv/consult/current", undo):
            roots_units(site)
            assert CANARY not in site.fab("status", "--json").text + site.provision().text
    as_it_was(site)


def roots_units(site: Site) -> None:
    """What root does by the link to the live release."""
    for command in ("start consult-processes.service", "restart consult-django.service"):
        deploy(site, f"sudo -n /usr/bin/systemctl {command}")


def as_it_was(site: Site) -> None:
    """Bring the site back, whatever its units have met."""
    must(site, "sudo -n /usr/bin/systemctl restart consult-django.service")
    must(site, "sudo -n /usr/bin/systemctl start consult-processes.service")
    site.deploy().expect(0)
    site.assert_sound()


NAMES = "deploy.lock deploys.jsonl digest.key maintenance.html maintenance.allow hold frozen"


@pytest.mark.parametrize("target", ["/etc/shadow", "/etc/hostname", "/opt/victim/folder"])
def test_the_tools_own_names_are_links(site: Site, target: str) -> None:
    """Each name in /srv/consult that the tool writes, as a link to what is root's: verbs fail, or write elsewhere."""
    keep = (
        f"mkdir -p {HERE}/kept; cd /srv/consult; for name in {NAMES}; do mv -T $name {HERE}/kept/$name || true; done\n"
    )
    undo = f"cd /srv/consult; for name in {NAMES}; do rm -rf $name; mv -T {HERE}/kept/$name $name || true; done"
    links = f"for name in {NAMES}; do case ' $but ' in *\" $name \"*) ;; *) ln -sfn {target} $name ;; esac; done"
    # With the lock's own, no verb gets beyond it.
    for but in ("deploy.lock frozen hold", ""):
        back = f"cd {HERE}/kept; for name in {but}; do [ -e $name ] && cp -a $name /srv/consult/; done; true\n"
        with planted(site, f"{keep}{back}cd /srv/consult; but='{but}'; {links}", undo):
            site.commit(site.titled(f"Through links, {len(but)}"))
            for words in (
                ["deploy", "--branch", site.branch],
                ["maintenance.on"],
                ["maintenance.off"],
                ["history"],
                ["status"],
            ):
                assert CANARY not in site.fab(*words, "--json").text
            assert CANARY not in site.provision().text
    site.deploy().expect(0)
    site.fab("maintenance.off", "--json")


def test_pipes_hold_up_no_provision(site: Site) -> None:
    """Pipes in the place of the tool's own files: root reads from none of them for ever."""
    keep = (
        f"mkdir -p {HERE}/kept; cd /srv/consult; for name in {NAMES}; do mv -T $name {HERE}/kept/$name || true; done\n"
    )
    undo = f"cd /srv/consult; for name in {NAMES}; do rm -rf $name; mv -T {HERE}/kept/$name $name || true; done"
    with planted(site, f"{keep}for name in {NAMES}; do mkfifo $name; done", undo):
        site.provision()
    site.deploy().expect(0)


def test_folders_of_other_runs(site: Site) -> None:
    """In /tmp, links and folders with the names of a killed run: `deploy`'s go, and what they lead to stays."""
    trap = """
    mkdir /tmp/deploy-99999999-mine
    ln -s /opt/victim /tmp/deploy-99999998-link
    ln -s /opt/victim /tmp/deploy-99999997-$(printf '\\n')x
    for number in $(seq 1 200); do ln -s /opt/victim/file /tmp/uv-$number.lock; done
    """
    undo = "rm -rf /tmp/deploy-9999999* /tmp/uv-*.lock"
    with planted(site, trap, undo):
        tool(site)
        assert deploy(site, "ls /tmp/deploy-99999999-mine").returncode != 0
    site.deploy().expect(0)


def test_files_that_a_login_reads(site: Site) -> None:
    """Shells, sshd and PAM read them for `deploy` alone, not for the admin, nor for what root runs as `deploy`."""
    files = "~/.bashrc ~/.bash_profile ~/.profile ~/.bash_env ~/.ssh/rc"
    trap = f"""
    cp -a ~/.bashrc ~/.profile {HERE}
    for file in {files}; do echo {PAYLOAD} >$file; done
    for file in ~/.ssh/environment ~/.pam_environment; do echo BASH_ENV={PAYLOAD} >$file; done
    """
    undo = f"rm {files} ~/.ssh/environment ~/.pam_environment; cp {HERE}/.bashrc {HERE}/.profile ~"
    with planted(site, trap, undo):
        by_ssh(site, "true")
        sprung(site)
        site.provision().expect(0)
        tool(site)
        sprung(site)
    site.deploy().expect(0)


def test_commands_of_a_release(site: Site) -> None:
    """`build` and its like run what the commit has: as `deploy`, who may not become more there."""
    script = f"#!/bin/sh\n{PAYLOAD}\nsudo -n -s {PAYLOAD}\nsudo -n id && id -u >>{SAID}\ntrue\n"
    site.commit(site.titled("With a command") | {"apps/web/evil.sh": script})
    site.settings |= {"build": ["./evil.sh"], "before_switch": ["./evil.sh"], "after_switch": ["./evil.sh"]}
    site.deploy().expect(0)
    sprung(site)
    for name in ("build", "before_switch", "after_switch"):
        del site.settings[name]
    site.deploy().expect(0)


def test_the_folder_of_doppler_is_a_link(site: Site) -> None:
    """systemd makes and owns the service's folders as root; a link in their place it does not follow."""
    folder = "/var/lib/consult-django/doppler"
    with planted(
        site, f"mv {folder} {folder}.kept; ln -s /opt/victim/folder {folder}", f"rm {folder}; mv {folder}.kept {folder}"
    ):
        deploy(site, "sudo -n /usr/bin/systemctl restart consult-django.service")
        deploy(site, "sudo -n /usr/bin/systemctl start consult-processes.service")
    as_it_was(site)


# What the app may do, and from then on what it may not, whatever its code is; a line each.
SANDBOX = f"""
touch /srv/consult/shared/tried-x
touch /srv/consult/releases/x
touch "$RELEASE/x"
echo x >>"$RELEASE/.deploy/gunicorn.conf.py"
ln -sfn /etc /srv/consult/current
ln -s /etc /srv/consult/new
touch /srv/consult/repo.git/config
touch /srv/consult/deploys.jsonl
: 2>/dev/null >>/srv/consult/deploy.lock
mv /srv/consult/shared /srv/consult/other
echo x >>/etc/consult/doppler.env
touch /etc/consult/x
cat /etc/consult/../other/doppler.env
touch /srv/other/x
touch /srv/other/shared/x
cat /etc/shadow
ls /home/deploy/.ssh
cat ~/.ssh/authorized_keys
touch /var/lib/other
sudo -n /usr/sbin/nginx -t -q
sudo -n {INSTALL} next
sudo -n -l
systemctl restart consult-django.service
systemd-run {PAYLOAD}
unshare --user --map-root-user true
unshare --mount true
mount -t tmpfs none /mnt
chmod 4755 {SAID}
crontab {HERE}/env
"""


def test_the_apps_own_processes(site: Site) -> None:
    """Code of the live release, in gunicorn and in a worker: it writes neither code nor settings nor another app's."""
    lines = [line for line in SANDBOX.strip().splitlines() if line]
    probe = "\n".join(
        f"( {line} ) </dev/null >/dev/null 2>&1 && echo 'went well: {line.replace(chr(39), '')}' >>$said"
        for line in lines
    )
    trap = f"""
    cat >{HERE}/probe <<'X'
#!/bin/sh
unit=$(tail -n 1 /proc/self/cgroup)
unit=${{unit##*/}}
said=/srv/consult/shared/tried-${{unit%%[@.]*}}
RELEASE=$(readlink -e /srv/consult/current)
{PAYLOAD}
{probe}
echo done >>$said
X
    chmod 755 {HERE}/probe
    cat >/srv/consult/current/.venv/lib/python3.11/site-packages/evil.pth <<'X'
import os; "INVOCATION_ID" in os.environ and os.system("{HERE}/probe")
X
    """
    packages = "/srv/consult/releases/*/.venv/lib/python3.11/site-packages"
    undo = f"rm -f {packages}/evil.pth {HERE}/probe /srv/consult/shared/tried-*"
    with planted(site, trap, undo):
        must(site, "sudo -n /usr/bin/systemctl restart consult-django.service")
        must(site, "sudo -n /usr/bin/systemctl start consult-processes.service")
        for unit in ("consult-django", "consult-worker"):
            tried = f"cat /srv/consult/shared/tried-{unit} 2>/dev/null; true"
            wait_for(lambda tried=tried: "done" in site.run(tried), what=lambda: site.run("ls /srv/consult/shared"))
            assert set(site.run(tried).splitlines()) == {f"went well: {lines[0]}", "done"}
        sprung(site)
    as_it_was(site)


def test_code_of_the_live_release_runs_in_the_sandbox(site: Site) -> None:
    """gunicorn's settings in the live release, and its Python: whoever starts the service, they are `deploy`'s."""
    settings, python = "/srv/consult/current/.deploy/gunicorn.conf.py", "/srv/consult/current/.venv/bin/python"
    trap = f"""
    cp -a {settings} {HERE}/settings; cp -a {python} {HERE}/python
    echo 'import os; os.system("{PAYLOAD}")' >>{settings}
    """
    with planted(site, trap, f"cp {HERE}/settings {settings}; rm {python}; cp -a {HERE}/python {python}"):
        must(site, "kill -HUP $(cat /run/consult-django/gunicorn.pid)")
        wait_for(lambda: site.run(f"cat {SAID}"))
        sprung(site)
        wrapper = f'#!/bin/sh\\n{PAYLOAD}\\nexec {HERE}/python "$@"\\n'
        must(site, f"printf '{wrapper}' >{HERE}/new; chmod 755 {HERE}/new; mv {HERE}/new {python}")
        deploy(site, "sudo -n /usr/bin/systemctl restart consult-django.service")
        wait_for(lambda: uid(site) in site.run(f"cat {SAID}"))
        site.provision().expect(0)
        site.fab("status", "--json")
        sprung(site)
    as_it_was(site)
