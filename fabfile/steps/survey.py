"""Reading a host in one trip. Writes nothing."""

from shlex import quote

from fabfile.config.layout import Layout
from fabfile.steps.step import Step


def read_host(layout: Layout, linked: tuple[str, ...] = ()) -> Step:
    """Answer with `key value` lines for `state.parse`; `linked` are files in shared/ that must be there."""
    files = " ".join(quote(str(path)) for path in (layout.service_file, layout.socket_file, layout.site_file))
    shared_files = "\n".join(
        f"[ -e {quote(str(layout.shared / name))} ] || echo missing the linked file {quote(str(layout.shared / name))}"
        for name in linked
    )
    return Step(
        "Read the host",
        f"""
base={quote(str(layout.base))}
echo "now $(date +%s)"
for tool in git uv doppler nginx curl flock; do command -v $tool >/dev/null || [ -x /usr/sbin/$tool ] || echo "missing the program $tool"; done
for place in "$base/releases" "$base/shared" "$base/staged"; do [ -w "$place" ] || echo "missing the folder $place"; done
[ -r {quote(str(layout.secrets))} ] || echo missing the token file {quote(str(layout.secrets))}
{shared_files}
if [ -L {quote(str(layout.app))} ]; then echo "app link"; elif [ -e {quote(str(layout.app))} ]; then echo "app folder"; else echo "app nothing"; fi
echo "live $(readlink -e {quote(str(layout.current))} || true)"
disk=$base
[ -d "$disk" ] || disk=/
read -r space inodes < <(df --output=avail,iavail -k "$disk" | tail -n 1)
echo "disk $space"
echo "inodes ${{inodes/#-/1000000}}"
for folder in "$base"/releases/[0-9]*Z-*/; do
  [ -d "$folder" ] || continue
  flags=-
  for mark in built good bad left; do [ ! -e "$folder.deploy/$mark" ] || flags=$flags,$mark; done
  folder=${{folder%/}}
  notes=''
  [ ! -r "$folder/.deploy/release.json" ] || IFS= read -r notes <"$folder/.deploy/release.json" || true
  echo "release ${{folder##*/}} $flags $notes"
done
for file in {files}; do if [ "$(readlink "$file" || true)" = /dev/null ]; then echo "masked ${{file##*/}}"; fi; done
for file in {files}; do
  [ -e "$base/staged/${{file##*/}}.pending" ] || sha256sum "$file" 2>/dev/null | sed 's/^/file /; s/  / /' || true
done
[ ! -s "$base/frozen" ] || echo "frozen $(tr '\\n' ' ' <"$base/frozen")"
{_services(layout)}
""",
    )


def holder(layout: Layout) -> Step:
    """Answer with the card of whoever works on the host, or nothing."""
    path = quote(str(layout.lock))
    return Step(
        "See who works on it",
        f"flock --nonblock --shared {path} true 2>/dev/null || cat {path} 2>/dev/null || true",
    )


def freeze(layout: Layout, card: str) -> Step:
    """Close the host by hand; answers with the card that was there before, if one was."""
    path = quote(str(layout.base / "frozen"))
    return Step("Lock the host", f"if [ -s {path} ]; then cat {path}; else printf '%s' {quote(card)} >{path}; fi")


def unfreeze(layout: Layout) -> Step:
    """Open the host again; answers with the card that closed it, if one did."""
    path = quote(str(layout.base / "frozen"))
    return Step("Unlock the host", f"if [ -s {path} ]; then cat {path}; rm -f {path}; fi")


def _services(layout: Layout) -> str:
    """Whether unit, socket and nginx run, and which release each worker serves (its cwd: facts 12)."""
    return f"""
mapfile -t active < <(systemctl is-active {layout.unit}.service {layout.unit}.socket nginx.service || true)
echo "service ${{active[0]:-}}"; echo "socket ${{active[1]:-}}"; echo "nginx ${{active[2]:-}}"
master=$(cat {quote(str(layout.pid_file))} 2>/dev/null || true)
if [ -n "$master" ] && kill -0 "$master" 2>/dev/null; then
  echo "master $master"
  for pid in $(pgrep -P "$master" || true); do
    cwd=$(readlink "/proc/$pid/cwd" || true)
    cwd=${{cwd#{layout.releases}/}}
    echo "worker $pid ${{cwd%%/*}}"
  done
fi
"""
