# Brings the workers and timers of an app to its live release. NAME-processes.service runs it as root, at boot and when a
# deploy asks: so sudo allows one command that names no release, and what starts at boot is what a deploy starts.
#
# usage: roll_processes.sh APP CURRENT SECONDS [worker:NAME:COUNT | singleton:NAME:1 | timer:NAME:1]...
#
# Workers are instances APP-NAME@RELEASE:NUMBER. A roll starts new ones, sees that they stay, and stops the others without
# waiting for their work to end. If they do not stay, all is as before and it fails.
set -euo pipefail
app=$1 current=$2 trial=$3 # seconds; what is wrong with a program shows while it starts
shift 3
units=/etc/systemd/system
mark="# A process of $app. Written by the deploy tool, which removes it when hosts.toml no longer names the process."

live=$(readlink -e "$current" || true)
release=${live##*/}
# The link is the user's, its target any text: of more than a release's name, units of others could be made.
if [ -n "$live" ] && { [ "${live%/*}" != "$(readlink -e "${current%/*}/releases")" ] ||
  ! [[ $release =~ ^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}$ ]]; }; then
  printf '%s leads to %q, which is no release of %s: nothing is started or stopped\n' "$current" "$live" "$app"
  exit 1
fi
declare -A kinds=() counts=()
if [ -n "$release" ]; then # nothing is live yet, or no more: nothing is to run
  for word in "$@"; do
    IFS=: read -r kind name count <<<"$word"
    kinds[$name]=$kind counts[$name]=$count
  done
fi

# Each list may be empty, and systemctl without a unit is an error, or means all of them.
start() { [ "$#" = 0 ] || systemctl start "$@"; }
stop() { [ "$#" = 0 ] || systemctl stop "$@"; }
stop_later() { [ "$#" = 0 ] || systemctl stop --no-block "$@"; }

# The unit files of this app's processes of today and of before, by their names.
files() { (cd "$units" && grep -lxF -- "$mark" "$app"-*.service "$app"-*.timer 2>/dev/null) || true; }

# The process that a unit file belongs to.
process_of() {
  local name=${1#"$app-"}
  name=${name%.*}
  echo "${name%@}"
}

# The units of a pattern in one of some states, by their names.
units_in() { systemctl list-units --plain --no-legend --full "--state=$1" "$2" | cut -d ' ' -f 1; }

# Names for the new instances of a process: those that nothing has, not even an instance that ends its work.
fresh() {
  local number=0 unit left=${counts[$1]}
  while [ "$left" -gt 0 ]; do
    number=$((number + 1))
    unit=$app-$1@$release:$number.service
    [ "$(systemctl show --property ActiveState --value "$unit")" = inactive ] || continue
    echo "$unit"
    left=$((left - 1))
  done
}

booting() { [ "$(systemctl is-system-running || true)" = starting ]; }

# Whether all of these go on for a moment, none of them started again.
stay() {
  local end=$((SECONDS + trial)) unit state
  while [ "$#" -gt 0 ] && [ "$SECONDS" -lt "$end" ]; do
    sleep 0.25
    for unit in "$@"; do
      state=$(systemctl show --property ActiveState,NRestarts "$unit" | sort | tr '\n' ' ')
      [ "$state" = "ActiveState=active NRestarts=0 " ] || { echo "$unit does not stay: it ended within $trial s$kept"; return 1; }
    done
  done
}

old=() old_singletons=()
for file in $(files); do
  case $file in *@.service) ;; *) continue ;; esac
  name=$(process_of "$file")
  systemctl reset-failed "$app-$name@*.service" 2>/dev/null || true # killed because it took too long; its name is free
  case ${kinds[$name]:-} in
    singleton) mapfile -t -O "${#old_singletons[@]}" old_singletons < <(units_in active,activating,deactivating "$app-$name@*.service") ;;
    *) mapfile -t -O "${#old[@]}" old < <(units_in active,activating "$app-$name@*.service") ;;
  esac
done

kept=''
[ -z "${old[*]}${old_singletons[*]}" ] || kept=' (the old workers go on)'

new=() new_singletons=() timers=()
for name in "${!kinds[@]}"; do
  case ${kinds[$name]} in
    worker) mapfile -t -O "${#new[@]}" new < <(fresh "$name") ;;
    singleton) new_singletons+=("$app-$name@$release:1.service") ;;
    timer) timers+=("$app-$name.timer") ;;
  esac
done

roll() {
  start "${new[@]}" && stop "${old_singletons[@]}" && start "${new_singletons[@]}" || return 1
  # At boot nobody is to be told, and there is nothing to go back to.
  booting || stay "${new[@]}" "${new_singletons[@]}" || return 1
  start "${timers[@]}"
}
if ! roll; then
  stop_later "${new[@]}"
  stop "${new_singletons[@]}"
  start "${old_singletons[@]}"
  exit 1
fi
stop_later "${old[@]}"

# What left hosts.toml. A unit file stays as long as something runs by it, for how that is ended stands there.
for file in $(files); do
  name=$(process_of "$file")
  case "${kinds[$name]:-} $file" in "timer $app-$name."* | "worker "*@.service | "singleton "*@.service) continue ;; esac
  case $file in
    *.timer) systemctl stop "$file" ;;
    *) [ -z "$(units_in active,activating,deactivating "$app-${name}[@.]*service")" ] || continue ;;
  esac
  [ -z "$release" ] || rm -f "$units/$file" "/var/lib/systemd/timers/stamp-$file"
done
systemctl daemon-reload
